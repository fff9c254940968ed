//! Expressions of the manifest over one event, in CEL (the Common Expression Language). The subset is what ends soon
//! whatever the payload: no loops, no regular expressions.
//!
//! An expression sees `event` (the attributes, under the names that native JSON has for them) and `data` (the payload, if
//! it is JSON); in a pipeline also `steps`, the outputs of the run's steps under their names, as far as they are there and
//! JSON. One that is only a path, such as `data.orderId`, is answered without the interpreter and exactly, however large
//! its numbers are.

mod call;
mod check;
mod form;
mod number;
mod parts;
mod payload;
mod scan;

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::Value;

pub use check::{Kind, Path, Root, Step};
use form::Form;
pub use parts::DEPTH_MAX;
use parts::Seen;
use payload::Leaf;
pub use scan::{SOURCE_BYTES_MAX, TOKENS_MAX};

use super::{Event, Payload};

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

/// What an expression is evaluated over.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub event: &'a Event,
    /// Of the run's steps, by name; none: the step has no output.
    pub outputs: &'a [(String, Option<Payload>)],
}

impl<'a> Scene<'a> {
    /// Outside of pipelines.
    pub fn of(event: &'a Event) -> Self {
        Self { event, outputs: &[] }
    }

    fn output(&self, step: &str) -> Option<&'a Payload> {
        self.outputs.iter().find(|(name, _)| name == step)?.1.as_ref()
    }
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
        self.verdict(&Scene::of(event)).unwrap_or(false)
    }

    /// Whether it is true; or why it is neither true nor false, as a sentence.
    pub fn truth(&self, scene: &Scene<'_>) -> Result<bool, String> {
        self.verdict(scene).map_err(|reason| format!("`{}` is neither true nor false: it {reason}", self.source()))
    }

    /// Or why there is no verdict, to follow "it".
    fn verdict(&self, scene: &Scene<'_>) -> Result<bool, String> {
        let leaf = match &self.0.form {
            Form::Path(path) => path.look(scene)?,
            Form::Program { .. } => match self.run(scene)? {
                (Value::Bool(truth), _) => return Ok(truth),
                // How exact a number is does not matter to what it is not.
                (value, _) => leaf(value, Seen::default())?,
            },
        };
        match leaf {
            Leaf::Bool(truth) => Ok(truth),
            other => Err(format!("is {}", other.as_str())),
        }
    }

    /// The text, number or boolean that it gives of the event, as a key; or why there is none, as a sentence. Numbers that
    /// differ give keys that differ, numbers that are equal give one key.
    pub fn key(&self, event: &Event) -> Result<String, String> {
        self.key_in(&Scene::of(event))
    }

    /// As [`Expression::key`], in a run.
    pub fn key_in(&self, scene: &Scene<'_>) -> Result<String, String> {
        let leaf = match &self.0.form {
            Form::Path(path) => path.look(scene),
            Form::Program { .. } => self.run(scene).and_then(|(value, seen)| leaf(value, seen)),
        };
        let text = leaf.and_then(|leaf| match leaf {
            Leaf::Text(text) => Ok(text),
            Leaf::Number(number) => Ok(number),
            Leaf::Bool(truth) => Ok(truth.to_string()),
            Leaf::Null | Leaf::List | Leaf::Map => Err(format!("is {}", leaf.as_str())),
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
    fn run(&self, scene: &Scene<'_>) -> Result<(Value, Seen), String> {
        let Form::Program { program, event_names, needed, outputs } = &self.0.form else {
            return Err("is no program".to_owned());
        };
        let mut seen = Seen::default();
        let payload = scene.event.envelope.payload.as_ref();
        let data = match needed {
            Some(needed) => parts::data(payload, needed, &mut seen)?,
            None => None,
        };
        let of_run = !outputs.is_empty();
        let steps = if of_run { Some(form::steps_value(scene, outputs, &mut seen)?) } else { None };
        let run = || {
            let mut context = cel::Context::with_env(Arc::clone(&ENVIRONMENT));
            for (name, value) in [("data", data), ("steps", steps)] {
                if let Some(value) = value {
                    context.add_variable_from_value(name, value);
                }
            }
            context.add_variable_from_value("event", form::event_value(scene.event, event_names));
            program.execute(&context)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => Ok((value, seen)),
            Ok(Err(error)) => Err(form::reason(&error, of_run)),
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

/// As written.
impl serde::Serialize for Expression {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.source())
    }
}

impl<'de> serde::Deserialize<'de> for Expression {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&source).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
