//! What expressions look at, against the schemas of the events that they will see.

use serde_json::Value;

use super::authored::Manifest;
use super::codes;
use super::diagnostic::Diagnostic;
use super::elements::consumer::Consumer;
use super::elements::event::{self, EventType};
use super::elements::expression::inside;
use super::elements::pipeline::Pipeline;
use super::elements::step::Match;
use super::elements::subscription::Subscription;
use super::flat::{Authored, Placed};
use super::payload_schema::{self, Presence};
use super::reader::{At, Reader};
use super::yaml::quoted;
use crate::model::expression::{Kind, Path, Root, Step};
use crate::model::spec::KeySpec;
use crate::model::{Expression, TypePattern};

/// What an expression is there for, and what becomes of an event without what it looks at.
struct Purpose {
    /// Its key in the manifest.
    name: &'static str,
    gives: Gives,
    /// It must give something, and not only be true or not.
    needed: bool,
    without: &'static str,
    ask: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Key,
    Truth,
}

impl Gives {
    fn takes(self, kind: Kind) -> bool {
        match self {
            Self::Key => is_value(kind) || kind == Kind::Any,
            Self::Truth => kind.may_be(Kind::Bool),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Key => "text, a number or a boolean",
            Self::Truth => "true or false",
        }
    }
}

/// Of a kind that can be a key.
fn is_value(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Number | Kind::Bool)
}

const fn key(name: &'static str) -> Purpose {
    let without = "a delivery without its key is a dead letter";
    Purpose { name, gives: Gives::Key, needed: true, without, ask: "has(data.a) ? data.a : event.id" }
}

const ORDER: Purpose = key("order-by");
const IDEMPOTENCY: Purpose = key("idempotency-key");
const KEY: Purpose = key("key");
const WHERE: Purpose =
    Purpose { name: "where", gives: Gives::Truth, needed: false, without: "an event without it is not meant", ask: "" };
const WHEN: Purpose = Purpose {
    name: "when",
    gives: Gives::Truth,
    needed: true,
    without: "without it the step fails",
    ask: "has(data.a) && data.a",
};
const AWAITED: Purpose = Purpose { needed: false, without: "an event without it ends no wait", ..key("match") };
const WAITING: Purpose = Purpose { without: "without it the step fails", ..key("match") };

pub(super) fn check(reader: &mut Reader, manifest: &Manifest, consumer: &Consumer, subscribed: &[At<TypePattern>]) {
    let all: Vec<&(At<String>, EventType)> = manifest
        .events
        .iter()
        .filter(|(name, _)| subscribed.iter().any(|pattern| pattern.value.matches(&name.value)))
        .filter(|(name, event)| consumer.on.as_ref().is_none_or(|on| understood(&on.value, &name.value, event)))
        .collect();
    let order = consumer.order_by.as_ref().and_then(|order| match &order.value {
        KeySpec::One => None,
        KeySpec::Of(key) => Some(At { value: key.clone(), span: order.span.clone() }),
    });
    let share = consumer.concurrency_per_key.as_ref().map(|share| share.value.key.clone());
    for (key, purpose) in [(order, ORDER), (consumer.idempotency_key.clone(), IDEMPOTENCY), (share, KEY)] {
        if let Some(key) = key {
            check_over(reader, &key, &purpose, &all);
        }
    }
    check_conditions(reader, manifest, consumer.on.as_ref().map_or(&[], |on| &on.value));
}

/// The conditions, the key and the steps of a pipeline.
pub(super) fn check_pipeline(reader: &mut Reader, manifest: &Manifest, pipeline: &Pipeline, steps: &[Placed<'_>]) {
    let on = &pipeline.on.value;
    check_conditions(reader, manifest, on);
    let begins: Vec<_> = manifest.events.iter().filter(|(name, event)| understood(on, &name.value, event)).collect();
    if let Some(key) = &pipeline.key {
        check_over(reader, key, &KEY, &begins);
    }
    for placed in steps {
        if let Some(when) = placed.step.when() {
            check_over(reader, when, &WHEN, &begins);
        }
        let Authored::Wait(wait) = placed.step else { continue };
        let (Some(pattern), Some(matching)) = (&wait.wait_for, &wait.matching) else { continue };
        let awaited: Vec<_> = manifest.events.iter().filter(|(name, _)| pattern.value.matches(&name.value)).collect();
        let Match { event, run } = &matching.value;
        check_over(reader, event, &AWAITED, &awaited);
        check_over(reader, run, &WAITING, &begins);
        check_kinds(reader, matching, kind_in(&event.value, &awaited), kind_in(&run.value, &begins));
    }
}

/// What is text on one side and a number on the other is probably not the same thing.
fn check_kinds(reader: &mut Reader, matching: &At<Match>, event: Kind, run: Kind) {
    if event.may_be(run) {
        return;
    }
    let message = format!("`match` compares {} of the event with {} of the run", event.as_str(), run.as_str());
    let help = "compare like with like: `string(…)` makes text of a number";
    reader.error(codes::MATCH_APART, matching.span.clone(), message, "these have no value in common", help);
}

/// What an expression gives of these events; of a path, as their schemas say it.
fn kind_in(expression: &Expression, events: &[&(At<String>, EventType)]) -> Kind {
    let Some(path) = alone(expression) else { return expression.kind() };
    let mut kinds = events.iter().flat_map(|(_, event)| match &event.schema {
        Some(schema) => payload_schema::kinds(&schema.document, &path.steps),
        None => vec![Kind::Any],
    });
    let first = kinds.next().filter(|kind| is_value(*kind)).unwrap_or(Kind::Any);
    if kinds.all(|kind| kind == first) { first } else { Kind::Any }
}

/// The place in the payload that the whole expression is.
fn alone(expression: &Expression) -> Option<&Path> {
    let [path] = expression.paths() else { return None };
    let whole = !path.tested && path.root == Root::Data && path.at == (0..expression.source().len());
    whole.then_some(path)
}

fn check_conditions(reader: &mut Reader, manifest: &Manifest, on: &[Subscription]) {
    for subscription in on {
        let Some(condition) = &subscription.condition else { continue };
        let matches = |name: &str| subscription.pattern.value.matches(name);
        let meant: Vec<_> = manifest.events.iter().filter(|(name, _)| matches(&name.value)).collect();
        check_over(reader, condition, &WHERE, &meant);
    }
}

/// Whether events of the version that is declared are meant.
fn understood(on: &[Subscription], name: &str, event: &EventType) -> bool {
    let declared = event.version.as_ref().map_or(event::VERSION, |version| version.value.as_str());
    let declared = semver::Version::parse(declared).ok();
    let wanted =
        |wanted: &At<semver::VersionReq>| declared.as_ref().is_none_or(|version| wanted.value.matches(version));
    on.iter().any(|one| one.pattern.value.matches(name) && one.version.as_ref().is_none_or(wanted))
}

fn check_over(
    reader: &mut Reader,
    expression: &At<Expression>,
    purpose: &Purpose,
    events: &[&(At<String>, EventType)],
) {
    for (name, event) in events {
        let Some(schema) = &event.schema else { continue };
        let wrong = alone(&expression.value).and_then(|path| wrong_kind(path, purpose, &schema.document, &name.value));
        if let Some((message, help)) = wrong {
            reader.error(codes::EXPRESSION_KIND, expression.span.clone(), message, "its schema says so", help);
            continue;
        }
        let paths = expression.value.paths();
        for path in paths.iter().filter(|path| path.root == Root::Data) {
            let guarded = path.tested || paths.iter().any(|other| other.tested && other.steps == path.steps);
            let presence = payload_schema::look(&schema.document, &path.steps);
            if let Some(problem) = problem(reader, expression, path, presence, purpose, guarded, &name.value) {
                reader.push(problem);
            }
        }
    }
}

/// What the schema has at the path may be neither a key nor a condition, whatever the event: says so, and what to do.
fn wrong_kind(path: &Path, purpose: &Purpose, document: &Value, event: &str) -> Option<(String, String)> {
    let kinds = payload_schema::kinds(document, &path.steps);
    if kinds.iter().any(|kind| purpose.gives.takes(*kind)) {
        return None;
    }
    let place = shown(&path.steps);
    let found = kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or ");
    let (name, wanted) = (purpose.name, purpose.gives.words());
    let message = format!("`{name}` must be {wanted}, and `{place}` of `{event}` is {found}");
    let below = |wanted| {
        let rest = payload_schema::below(document, &path.steps, wanted)?;
        Some(shown(&[path.steps.as_slice(), &rest].concat()))
    };
    let help = match (purpose.gives, kinds.iter().find(|kind| **kind != Kind::Null)) {
        (_, None) => "correct the path, or the schema".to_owned(),
        (Gives::Key, _) => match below(is_value) {
            Some(below) => format!("name one value in it, as in `{below}`"),
            None => "name one value in it".to_owned(),
        },
        (Gives::Truth, Some(Kind::Text)) => format!("compare it with something: `{place} == \"a\"`"),
        (Gives::Truth, Some(Kind::Number)) => format!("compare it with something: `{place} > 100`"),
        (Gives::Truth, Some(Kind::List)) => format!("ask how long it is, `size({place}) > 0`, or about one item"),
        (Gives::Truth, _) => match (below(|kind| kind == Kind::Bool), below(|kind| kind == Kind::Text)) {
            (Some(below), _) => format!("name one value in it, as in `{below}`"),
            (None, Some(below)) => format!("compare one value in it with something, as in `{below} == \"a\"`"),
            (None, None) => "compare one value in it with something".to_owned(),
        },
    };
    Some((message, help))
}

fn problem(
    reader: &Reader,
    expression: &At<Expression>,
    path: &Path,
    presence: Presence,
    purpose: &Purpose,
    guarded: bool,
    name: &str,
) -> Option<Diagnostic> {
    let text = expression.value.source();
    let span = inside(reader, &expression.span, text, &path.at).unwrap_or_else(|| expression.span.clone());
    let shown = shown(&path.steps);
    match presence {
        Presence::Never(help) => {
            let message = format!("`{shown}` cannot be in `{name}`");
            let remark = "its schema does not allow it";
            Some(Diagnostic::error(codes::ABSENT, message).at(&reader.source, span, remark).help(help))
        }
        Presence::Undeclared(help) if !guarded => {
            let message = format!("the schema of `{name}` does not declare `{shown}`");
            let problem = Diagnostic::warning(codes::PERHAPS_ABSENT, message);
            Some(problem.at(&reader.source, span, purpose.without).help(help))
        }
        Presence::Optional if purpose.needed && !guarded => {
            let message = format!("the schema of `{name}` does not require `{shown}`");
            let help = format!("add it to `required` in the schema, or ask first: `{}`", purpose.ask);
            let problem = Diagnostic::warning(codes::PERHAPS_ABSENT, message);
            Some(problem.at(&reader.source, span, purpose.without).help(help))
        }
        _ => None,
    }
}

fn shown(steps: &[Step]) -> String {
    steps.iter().fold("data".to_owned(), |text, step| match step {
        Step::Member(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => format!("{text}.{name}"),
        Step::Member(name) => format!("{text}[{}]", quoted(name).replace('`', "\"")),
        Step::Item(index) => format!("{text}[{index}]"),
    })
}
