//! Everything above unit level, in one binary.

mod bad_input;
mod crash;
mod hostile;
mod reload;
mod tidy;
