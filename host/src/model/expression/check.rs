//! What an expression may say: three variables, a few functions, and types that can go together.

use std::ops::Range;

use cel::Program;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::form::EVENT;
use super::{Fault, scan};

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Depends on the event.
    Any,
    Bool,
    Number,
    Text,
    List,
    Map,
    Null,
    Bytes,
}

impl Kind {
    /// With its article.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Map => "an object",
            Self::Null => "null",
            Self::Bytes => "bytes",
        }
    }

    /// Whether a value of this kind may be one of the other.
    pub fn may_be(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    Event,
    Data,
    /// Of a pipeline's run; the first member names the step.
    Steps,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Member(String),
    Item(usize),
}

/// Something that an expression looks at: `data.items[0].id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub root: Root,
    pub steps: Vec<Step>,
    /// In bytes of the expression.
    pub at: Range<usize>,
    /// Stands in `has(…)`: may be absent.
    pub tested: bool,
}

pub(super) struct Checked {
    pub kind: Kind,
    pub paths: Vec<Path>,
}

pub(super) fn check(source: &str, program: &Program) -> Result<Checked, Fault> {
    let mut checker = Checker { source, program, paths: Vec::new() };
    let kind = checker.kind(program.expression())?;
    Ok(Checked { kind, paths: checker.paths })
}

pub(super) struct Checker<'s> {
    source: &'s str,
    program: &'s Program,
    paths: Vec<Path>,
}

impl Checker<'_> {
    pub(super) fn kind(&mut self, node: &IdedExpr) -> Result<Kind, Fault> {
        if let Some((root, steps)) = self.path(node)? {
            let at = self.path_span(node);
            return self.looked_at(at, root, steps, false);
        }
        match &node.expr {
            Expr::Literal(literal) => Ok(literal_kind(literal)),
            Expr::Ident(name) => Err(self.unknown(node, name)),
            Expr::Select(select) if select.test => {
                if let Some((root, mut steps)) = self.path(&select.operand)? {
                    steps.push(Step::Member(select.field.clone()));
                    let of = self.path_span(&select.operand);
                    let dot =
                        self.source.get(of.end..).and_then(|rest| rest.find('.')).map_or(of.end, |at| of.end + at + 1);
                    let at = of.start..scan::token(self.source, dot).end;
                    self.looked_at(at, root, steps, true)?;
                } else {
                    self.kind(&select.operand)?;
                }
                Ok(Kind::Bool)
            }
            Expr::Select(select) => {
                let of = self.kind(&select.operand)?;
                self.expect(&select.operand, of, Kind::Map, "a member belongs to an object")?;
                Ok(Kind::Any)
            }
            Expr::Call(call) => self.call(node, call),
            Expr::List(list) => {
                list.elements.iter().try_for_each(|item| self.kind(item).map(drop))?;
                Ok(Kind::List)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.kind(&entry.key)?;
                        self.kind(&entry.value)?;
                    }
                }
                Ok(Kind::Map)
            }
            Expr::Comprehension(_) => {
                let help = "what takes as long as a list is long belongs into the consumer";
                Err(self.fault(node, "loops (`all`, `exists`, `map`, `filter`) are not served", help))
            }
            Expr::Struct(_) | Expr::Unspecified => {
                Err(self.fault(node, "messages are not served", "`{\"name\": value}` is an object"))
            }
        }
    }

    /// Whether a node is a path from a variable, by names and numbers that are written out.
    fn path(&self, node: &IdedExpr) -> Result<Option<(Root, Vec<Step>)>, Fault> {
        let (operand, step) = match &node.expr {
            Expr::Ident(name) => {
                return Ok(match name.as_str() {
                    "data" => Some((Root::Data, Vec::new())),
                    "event" => Some((Root::Event, Vec::new())),
                    "steps" => Some((Root::Steps, Vec::new())),
                    _ => None,
                });
            }
            Expr::Select(select) if !select.test => (&*select.operand, Step::Member(select.field.clone())),
            Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
                [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] => {
                    (operand, Step::Member(name.inner().to_owned()))
                }
                [operand, index @ IdedExpr { expr: Expr::Literal(LiteralValue::Int(number)), .. }] => {
                    let Ok(number) = usize::try_from(*number.inner()) else {
                        return Err(self.fault(index, "items are counted from 0", "the first is `[0]`"));
                    };
                    (operand, Step::Item(number))
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(self.path(operand)?.map(|(root, mut steps)| {
            steps.push(step);
            (root, steps)
        }))
    }

    fn looked_at(&mut self, at: Range<usize>, root: Root, steps: Vec<Step>, tested: bool) -> Result<Kind, Fault> {
        let kind = match (root, steps.as_slice()) {
            (Root::Data, _) | (Root::Steps, [Step::Member(_), ..]) => Kind::Any,
            (Root::Steps, []) => {
                let help = "name one, such as `steps.reserve`";
                return Err(Fault { at, message: "`steps` alone is all outputs at once".into(), help: help.into() });
            }
            (Root::Steps, [Step::Item(_), ..]) => {
                let help = "write its name, such as `steps.reserve`";
                return Err(Fault { at, message: "a step is known by its name".into(), help: help.into() });
            }
            (Root::Event, []) => {
                let help = "name one, such as `event.source`";
                return Err(Fault { at, message: "`event` alone is all attributes at once".into(), help: help.into() });
            }
            (Root::Event, [Step::Member(name)]) if name == "attributes" => Kind::Map,
            (Root::Event, [Step::Member(name), ..]) if name == "attributes" => Kind::Any,
            (Root::Event, [first, rest @ ..]) => {
                let known = EVENT.iter().find(|(known, _)| matches!(first, Step::Member(name) if name == known));
                let Some((name, number)) = known else { return Err(no_attribute(at, first)) };
                if !rest.is_empty() {
                    let help = format!("write `event.{name}`");
                    return Err(Fault { at, message: format!("`event.{name}` has no members"), help });
                }
                if *number { Kind::Number } else { Kind::Text }
            }
        };
        if steps.len() > super::DEPTH_MAX {
            let help = "expressions look less deep";
            return Err(Fault { at, message: "the path is too long".into(), help: help.into() });
        }
        self.paths.push(Path { root, steps, at, tested });
        Ok(kind)
    }

    pub(super) fn expect(&self, node: &IdedExpr, found: Kind, wanted: Kind, help: &str) -> Result<(), Fault> {
        if found.may_be(wanted) {
            return Ok(());
        }
        Err(self.fault(node, &format!("this is {}, not {}", found.as_str(), wanted.as_str()), help))
    }

    fn unknown(&self, node: &IdedExpr, name: &str) -> Fault {
        let at = self.span(node);
        let before = self.source.get(..at.start).unwrap_or_default();
        let help = if before.ends_with('-') {
            "a member with a dash in its name is written `data[\"order-id\"]`".to_owned()
        } else {
            let name = name.trim_start_matches('.');
            format!("the variables are `event`, `data` and, in a pipeline, `steps`, as in `data.{name}`")
        };
        Fault { at, message: format!("{name:?} is not a variable"), help }
    }

    pub(super) fn fault(&self, node: &IdedExpr, message: &str, help: &str) -> Fault {
        let at = if matches!(self.path(node), Ok(Some(_))) { self.path_span(node) } else { self.span(node) };
        Fault { at, message: message.to_owned(), help: help.to_owned() }
    }

    /// Where the parser saw the node: of a path, its last dot; of an operator, the operator.
    fn span(&self, node: &IdedExpr) -> Range<usize> {
        let Some((start, end)) = self.program.source_info().offset_for(node.id) else { return 0..self.source.len() };
        let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        let token = scan::token(self.source, start);
        let end = token.end.max(self.source.ceil_char_boundary((end + 1).min(self.source.len())));
        if self.source.get(token.clone()) != Some("(") {
            return token.start..end;
        }
        // Of a call it is the bracket; people look for the name before it.
        let before = self.source.get(..token.start).unwrap_or_default();
        let name = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        name.len()..token.start.max(name.len() + 1)
    }

    /// From the variable to the end of the last name.
    fn path_span(&self, node: &IdedExpr) -> Range<usize> {
        let last = self.span(node);
        let mut first = node;
        loop {
            first = match &first.expr {
                Expr::Select(select) => &select.operand,
                Expr::Call(call) => match call.args.first() {
                    Some(operand) => operand,
                    None => break,
                },
                _ => break,
            };
        }
        let start = self.span(first).start;
        let end = match self.source.get(last.clone()) {
            Some(".") => scan::token(self.source, last.end).end,
            Some("[") => {
                self.source.get(last.end..).and_then(|rest| rest.find(']')).map_or(last.end, |at| last.end + at + 1)
            }
            _ => last.end,
        };
        start..end.max(start)
    }
}

fn no_attribute(at: Range<usize>, step: &Step) -> Fault {
    let name = match step {
        Step::Member(name) => name.clone(),
        Step::Item(index) => index.to_string(),
    };
    let names: Vec<&str> = EVENT.iter().map(|(name, _)| *name).collect();
    let help = format!("there are {} and `attributes`; what the payload has is in `data`", names.join(", "));
    Fault { at, message: format!("an event has no {name:?}"), help }
}

fn literal_kind(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Kind::Bool,
        LiteralValue::Bytes(_) => Kind::Bytes,
        LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Kind::Number,
        LiteralValue::Null => Kind::Null,
        LiteralValue::String(_) => Kind::Text,
    }
}
