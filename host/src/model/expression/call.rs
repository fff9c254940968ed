//! Functions and operators: which there are, what they take and give.

use cel::common::ast::{CallExpr, IdedExpr, operators};

use super::Fault;
use super::check::{Checker, Kind};

impl Checker<'_> {
    pub(super) fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Result<Kind, Fault> {
        let mut kinds = Vec::with_capacity(call.args.len() + 1);
        // A member's name is checked first: `data.xs.size()` and not `data.xs.sizes()`.
        if !known(call) {
            return Err(self.no_function(node, call));
        }
        let operands: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        for operand in &operands {
            kinds.push(self.kind(operand)?);
        }
        self.result(node, &call.func_name, &operands, &kinds)
    }

    fn result(&self, node: &IdedExpr, name: &str, operands: &[&IdedExpr], kinds: &[Kind]) -> Result<Kind, Fault> {
        let both = |wanted: Kind| kinds.iter().all(|kind| kind.may_be(wanted));
        match (name, kinds) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT, _) => {
                for (operand, kind) in operands.iter().zip(kinds) {
                    self.expect(operand, *kind, Kind::Bool, "`&&`, `||` and `!` take true or false")?;
                }
                Ok(Kind::Bool)
            }
            (operators::CONDITIONAL, [condition, yes, no]) => {
                if let Some(operand) = operands.first() {
                    self.expect(operand, *condition, Kind::Bool, "what stands before `?` is true or false")?;
                }
                Ok(if yes == no { *yes } else { Kind::Any })
            }
            (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => {
                if one.may_be(*other) || [one, other].contains(&&Kind::Null) {
                    return Ok(Kind::Bool);
                }
                Err(self.apart(node, *one, *other, "are never equal"))
            }
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [one, other],
            ) => {
                let ordered = [Kind::Number, Kind::Text, Kind::Bool, Kind::Bytes].into_iter().any(both);
                if ordered { Ok(Kind::Bool) } else { Err(self.apart(node, *one, *other, "have no order")) }
            }
            (operators::IN, [_, container]) => {
                if container.may_be(Kind::List) || container.may_be(Kind::Map) {
                    return Ok(Kind::Bool);
                }
                Err(self.fault(
                    node,
                    "`in` looks into a list or an object",
                    "as in `data.state in [\"paid\", \"sent\"]`",
                ))
            }
            (operators::ADD, [one, other]) => {
                let sum = [Kind::Number, Kind::Text, Kind::List, Kind::Bytes].into_iter().find(|kind| both(*kind));
                match sum {
                    Some(_) if *one == Kind::Any && *other == Kind::Any => Ok(Kind::Any),
                    Some(kind) => Ok(kind),
                    None => Err(self.apart(node, *one, *other, "have no sum")),
                }
            }
            (
                operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO | operators::NEGATE,
                _,
            ) => {
                for (operand, kind) in operands.iter().zip(kinds) {
                    self.expect(operand, *kind, Kind::Number, "this is computed with numbers")?;
                }
                Ok(Kind::Number)
            }
            (operators::INDEX, _) => Ok(Kind::Any),
            ("contains" | "startsWith" | "endsWith", _) => {
                for (operand, kind) in operands.iter().zip(kinds) {
                    self.expect(operand, *kind, Kind::Text, "this is asked of text")?;
                }
                Ok(Kind::Bool)
            }
            ("string", _) => Ok(Kind::Text),
            ("bool", _) => Ok(Kind::Bool),
            _ => Ok(Kind::Number),
        }
    }

    fn apart(&self, node: &IdedExpr, one: Kind, other: Kind, what: &str) -> Fault {
        let help = "`string(…)`, `int(…)` and `double(…)` make one of the other";
        self.fault(node, &format!("{} and {} {what}", one.as_str(), other.as_str()), help)
    }

    fn no_function(&self, node: &IdedExpr, call: &CallExpr) -> Fault {
        let name = &call.func_name;
        let message = match name.as_str() {
            "matches" => "regular expressions are not served".to_owned(),
            _ if FUNCTIONS.iter().any(|(known, ..)| known == name) => format!("{name:?} is not called like this"),
            _ => format!("{name:?} is not a function"),
        };
        let help = "there are `size(x)`, `string(x)`, `int(x)`, `uint(x)`, `double(x)`, `bool(x)`, `has(x.y)`, `x.contains(y)`, \
                    `x.startsWith(y)` and `x.endsWith(y)`";
        self.fault(node, &message, help)
    }
}

/// Functions by name, whether they are called on something, and how many arguments they take.
const FUNCTIONS: &[(&str, bool, usize)] = &[
    ("size", false, 1),
    ("size", true, 0),
    ("string", false, 1),
    ("int", false, 1),
    ("uint", false, 1),
    ("double", false, 1),
    ("bool", false, 1),
    ("contains", true, 1),
    ("startsWith", true, 1),
    ("endsWith", true, 1),
    (operators::CONDITIONAL, false, 3),
    (operators::LOGICAL_AND, false, 2),
    (operators::LOGICAL_OR, false, 2),
    (operators::LOGICAL_NOT, false, 1),
    (operators::SUBSTRACT, false, 2),
    (operators::ADD, false, 2),
    (operators::MULTIPLY, false, 2),
    (operators::DIVIDE, false, 2),
    (operators::MODULO, false, 2),
    (operators::EQUALS, false, 2),
    (operators::NOT_EQUALS, false, 2),
    (operators::GREATER_EQUALS, false, 2),
    (operators::LESS_EQUALS, false, 2),
    (operators::GREATER, false, 2),
    (operators::LESS, false, 2),
    (operators::NEGATE, false, 1),
    (operators::INDEX, false, 2),
    (operators::IN, false, 2),
];

fn known(call: &CallExpr) -> bool {
    let called = (call.func_name.as_str(), call.target.is_some(), call.args.len());
    FUNCTIONS.contains(&called)
}
