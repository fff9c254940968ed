//! The server as a whole, in process.
