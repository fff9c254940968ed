//! Expressions of the manifest over one event, in CEL (the Common Expression Language). The subset is what ends soon
//! whatever the payload: no loops, no regular expressions.
//!
//! An expression sees `event` (the attributes, under the names that native JSON has for them) and `data` (the payload, if
//! it is JSON). One that is only a path, such as `data.orderId`, is answered without the interpreter and exactly, however
//! large its numbers are.

mod call;
mod check;
mod form;
mod number;
mod payload;
mod scan;

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::Value;

pub use check::{Kind, Path, Root, Step};
use form::Form;
pub use payload::DEPTH_MAX;
use payload::{Leaf, Seen};
pub use scan::{SOURCE_BYTES_MAX, TOKENS_MAX};

use super::{Event, event};

/// Bytes of a key that an expression may give.
pub const KEY_BYTES_MAX: usize = 256;

/// Functions and operators; the parser expands macros, and what is not ours to serve is refused afterwards.
static ENVIRONMENT: LazyLock<Arc<cel::Env>> =
    LazyLock::new(|| Arc::new(cel::Env::stdlib().with_optional_support(false)));

/// A checked expression. Equal if written alike.
#[derive(Clone)]
pub struct Expression(Arc<Inner>);

struct Inner {
    source: String,
    form: Form,
    kind: Kind,
    paths: Vec<Path>,
}

/// What is wrong with an expression, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In bytes of the expression.
    pub at: Range<usize>,
    pub message: String,
    pub help: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl Expression {
    /// Parses and checks.
    pub fn parse(source: &str) -> Result<Self, Fault> {
        scan::bound(source)?;
        let whole = || 0..source.len();
        // The parser is generated and not ours: if it panics, the expression is to blame.
        let parsed = catch_unwind(|| ENVIRONMENT.compile(source)).map_err(|_| Fault {
            at: whole(),
            message: "the expression cannot be read".into(),
            help: "write it more simply".into(),
        })?;
        let program = parsed.map_err(|errors| scan::syntax(source, &errors))?;
        let checked = check::check(source, &program)?;
        let form = Form::of(program, &checked.paths);
        Ok(Self(Arc::new(Inner { source: source.into(), form, kind: checked.kind, paths: checked.paths })))
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What it gives, as far as that is known without an event.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What it looks at, in the order written.
    pub fn paths(&self) -> &[Path] {
        &self.0.paths
    }

    /// Whether it is true of the event. One that cannot be evaluated is not.
    pub fn holds(&self, event: &Event) -> bool {
        match &self.0.form {
            Form::Path(path) => matches!(path.look(event), Ok(Leaf::Bool(true))),
            Form::Program { .. } => matches!(self.run(event), Ok((Value::Bool(true), _))),
        }
    }

    /// The text, number or boolean that it gives, as a key; or why there is none, as a sentence. Numbers that differ give
    /// keys that differ, numbers that are equal give one key.
    pub fn key(&self, event: &Event) -> Result<String, String> {
        let leaf = match &self.0.form {
            Form::Path(path) => path.look(event),
            Form::Program { .. } => self.run(event).and_then(|(value, seen)| leaf(value, seen)),
        };
        let text = leaf.and_then(|leaf| match leaf {
            Leaf::Text(text) => Ok(text),
            Leaf::Number(number) => Ok(number),
            Leaf::Bool(truth) => Ok(truth.to_string()),
            Leaf::Null => Err("is null".to_owned()),
            Leaf::List => Err("is a list".to_owned()),
            Leaf::Map => Err("is an object".to_owned()),
        });
        match text {
            Ok(text) if text.len() > KEY_BYTES_MAX => {
                let bytes = text.len();
                Err(format!(
                    "`{}` gives no key: it has {bytes} bytes, and a key has at most {KEY_BYTES_MAX}",
                    self.source()
                ))
            }
            Ok(text) => Ok(text),
            Err(reason) => Err(format!("`{}` gives no key: it {reason}", self.source())),
        }
    }

    /// Evaluates with the interpreter. Never panics: a panic of the library's is an expression that gives nothing.
    fn run(&self, event: &Event) -> Result<(Value, Seen), String> {
        let Form::Program { program, event_names, needed } = &self.0.form else {
            return Err("is no program".to_owned());
        };
        let (data, seen) = match needed {
            Some(needed) => payload::needed(event, needed)?,
            None => (None, Seen::default()),
        };
        let run = || {
            let mut context = cel::Context::with_env(Arc::clone(&ENVIRONMENT));
            if let Some(data) = data {
                context.add_variable_from_value("data", data);
            }
            context.add_variable_from_value("event", form::event_value(event, event_names));
            program.execute(&context)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => Ok((value, seen)),
            Ok(Err(error)) => Err(form::reason(&error)),
            Err(_) => Err("cannot be evaluated".to_owned()),
        }
    }
}

fn leaf(value: Value, seen: Seen) -> Result<Leaf, String> {
    // What came in as a number that a double cannot hold may have become part of the key.
    if seen.inexact {
        return Err("is made from a number too large to be exact; a path alone, without operators, is".to_owned());
    }
    match value {
        Value::String(text) => Ok(Leaf::Text(Arc::unwrap_or_clone(text))),
        Value::Int(number) => Ok(Leaf::Number(number.to_string())),
        Value::UInt(number) => Ok(Leaf::Number(number.to_string())),
        Value::Float(number) if number.is_finite() => {
            Ok(Leaf::Number(number::canonical(&format!("{number:?}")).ok_or("is no number")?))
        }
        Value::Bool(truth) => Ok(Leaf::Bool(truth)),
        Value::Null => Ok(Leaf::Null),
        Value::List(_) => Ok(Leaf::List),
        Value::Map(_) => Ok(Leaf::Map),
        _ => Err("is neither text nor a number nor a boolean".to_owned()),
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.source)
    }
}

#[cfg(test)]
mod tests;
