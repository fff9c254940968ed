//! The server as a whole, in process: a log that only remembers, a host that only says, and real bytes.

mod access;
mod append;
mod documents;
mod mutated;
mod operate;
mod queries;
mod reader;
mod stream;
mod support;
mod wire;
