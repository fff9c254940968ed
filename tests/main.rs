//! Everything above unit level, in one binary.

mod tidy;
