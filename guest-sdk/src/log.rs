//! Structured log lines, kept with the attempt's outcome and bounded.
//!
//! ```
//! use tidegate_sdk::prelude::*;
//!
//! fn count(order: Event<Value>) -> Outcome {
//!     log::info!(order = order.id, attempt = order.attempt, "counted {}", order.event_type);
//!     log::warn("plain text will do");
//!     done()
//! }
//! ```
//!
//! Fields come first, `name = value`, with anything that implements `Display`; then a message as in `format!`.

use std::fmt::Display;

use crate::host;

pub use crate::__log_warn as warn;
pub use crate::{__log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

pub fn trace(message: impl Into<String>) {
    write(Level::Trace, message.into(), &[]);
}

pub fn debug(message: impl Into<String>) {
    write(Level::Debug, message.into(), &[]);
}

pub fn info(message: impl Into<String>) {
    write(Level::Info, message.into(), &[]);
}

pub fn warn(message: impl Into<String>) {
    write(Level::Warn, message.into(), &[]);
}

pub fn error(message: impl Into<String>) {
    write(Level::Error, message.into(), &[]);
}

/// Whether a line of this level would be kept.
pub fn enabled(level: Level) -> bool {
    host::log_enabled(level)
}

/// Writes a line with fields.
pub fn write(level: Level, message: impl Into<String>, fields: &[(&str, &dyn Display)]) {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    host::log_write(level, message.into(), fields);
}

/// What all five macros do. The line is put together only if it would be kept.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $($name:ident = $value:expr,)* $format:literal $(, $($argument:tt)*)?) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write(
                $crate::log::Level::$level,
                ::std::format!($format $(, $($argument)*)?),
                &[$((::std::stringify!($name), &$value as &dyn ::std::fmt::Display),)*],
            );
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace { ($($line:tt)*) => { $crate::__log!(Trace, $($line)*) }; }

#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug { ($($line:tt)*) => { $crate::__log!(Debug, $($line)*) }; }

#[doc(hidden)]
#[macro_export]
macro_rules! __log_info { ($($line:tt)*) => { $crate::__log!(Info, $($line)*) }; }

#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn { ($($line:tt)*) => { $crate::__log!(Warn, $($line)*) }; }

#[doc(hidden)]
#[macro_export]
macro_rules! __log_error { ($($line:tt)*) => { $crate::__log!(Error, $($line)*) }; }
