use bytes::Bytes;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::Context;
use super::args::{Reach, Reading};
use super::backend::{Backend, unread};
use super::client::{Ask, Client};
use super::error::Error;
use super::locate;
use super::output::Output;
use super::text::{self, Table};
use crate::model::record::{ConsumerDetail, ConsumerRecord};
#[cfg(test)]
use crate::model::spec::ConsumerKind;
use crate::model::{ConsumerName, Timestamp};

/// List the consumers and how they stand, show one in full, pause, resume or free its keys.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    look: Look,
}

#[derive(clap::Args, Debug)]
struct Look {
    /// Show this one in full, with the keys that its dead letters hold.
    #[arg(value_name = "NAME", value_parser = ConsumerName::new)]
    name: Option<ConsumerName>,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Attempt nothing more of a consumer's until it is resumed, also over restarts and reloads.
    ///
    /// Attempts in hand finish. Events go on being accepted and wait for it; those for an ephemeral consumer are lost, and counted.
    Pause(Change),
    /// Let a paused consumer go on where it stopped.
    Resume(Change),
    Release(Release),
}

#[derive(clap::Args, Debug)]
struct Change {
    #[arg(value_name = "NAME", value_parser = ConsumerName::new)]
    name: ConsumerName,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Free ordering keys that dead letters hold (`on-dead: hold`): what waits behind them goes on.
///
/// The dead letters stay. To deliver one again before what waits behind it, redrive it instead: when it is done, its key is free.
#[derive(clap::Args, Debug)]
struct Release {
    #[arg(value_name = "NAME", value_parser = ConsumerName::new)]
    name: ConsumerName,
    /// These keys; without one, all that are held, after a question.
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

const JSON: &str = "application/json";

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    match (&args.verb, &args.look.name) {
        (None, None) => list(&args.look.reading, context),
        (None, Some(name)) => one(name, &args.look.reading, context),
        (Some(Verb::Pause(args)), _) => change(args, true, context),
        (Some(Verb::Resume(args)), _) => change(args, false, context),
        (Some(Verb::Release(args)), _) => release(args, context),
    }
}

fn list(reading: &Reading, context: &mut Context) -> Result<(), Error> {
    let consumers = Backend::find(context, reading)?.consumers()?;
    if reading.json {
        return consumers.iter().try_for_each(|consumer| context.out.json(consumer));
    }
    if consumers.is_empty() {
        return context
            .out
            .none("no consumers yet: add one under `consumers` in the manifest, or drop a component into its folder");
    }
    let table = table(&consumers, context.now());
    context.out.table(&table)?;
    if let Some(held) = consumers.iter().find(|consumer| consumer.held_keys > 0) {
        context.out.tip(format!("See which keys are held with `tidegate consumers {}`.", held.name));
    }
    if consumers.iter().any(|consumer| consumer.dead_letters > 0) {
        context.out.tip("See what is dead and why with `tidegate dead list`.");
    }
    Ok(())
}

fn table(consumers: &[ConsumerRecord], now: Timestamp) -> Table {
    let row = |c: &ConsumerRecord| {
        // Of an ephemeral one nothing is kept: zeros would say that nothing has happened.
        let kept = |n: u64| if c.is_ephemeral() { "-".to_owned() } else { text::number(n) };
        vec![
            c.name.to_string(),
            c.kind.as_str().to_owned(),
            status(c),
            text::number(c.running),
            kept(c.depth),
            kept(c.waiting),
            c.oldest_waiting_since.map_or_else(|| "-".into(), |at| text::age(now.since(at))),
            kept(c.succeeded),
            kept(c.failed_attempts),
            kept(c.dead_letters),
            c.on.join(", "),
        ]
    };
    Table {
        head: &[
            "consumer",
            "kind",
            "status",
            "running",
            "depth",
            "waiting",
            "oldest",
            "succeeded",
            "failed attempts",
            "dead",
            "on",
        ],
        right: &[3, 4, 5, 6, 7, 8, 9],
        rows: consumers.iter().map(row).collect(),
    }
}

/// What keeps it from working, the weightiest first; else `active`. That one is ephemeral always stands there: it explains the rest.
fn status(consumer: &ConsumerRecord) -> String {
    if consumer.status == ConsumerRecord::REMOVED {
        return consumer.status.clone();
    }
    if consumer.is_ephemeral() {
        let paused = consumer.paused.then(|| "paused".to_owned());
        let lost = consumer.ephemeral_lost;
        let lost = (lost > 0).then(|| format!("{} lost", text::number(lost)));
        let words = [Some(consumer.status.clone()), paused, lost];
        return words.into_iter().flatten().collect::<Vec<_>>().join(", ");
    }
    if consumer.paused {
        return "paused".into();
    }
    let mut words = Vec::new();
    match consumer.breaker.as_str() {
        "open" | "probing" => words.push(format!("breaker {}", consumer.breaker)),
        _ => {}
    }
    if consumer.held_keys > 0 {
        words.push(format!("{} held", text::count(consumer.held_keys, "key")));
    }
    if words.is_empty() { consumer.status.clone() } else { words.join(", ") }
}

fn one(name: &ConsumerName, reading: &Reading, context: &mut Context) -> Result<(), Error> {
    let detail: Option<ConsumerDetail> = match Backend::find(context, reading)? {
        Backend::Host(host) => host.find(Ask::get(&format!("/consumers/{name}")))?,
        Backend::File(file) => file.consumer(name).map_err(unread)?,
    };
    let detail = detail.ok_or_else(|| missing(name))?;
    if reading.json {
        return context.out.json(&detail);
    }
    draw(&detail, context.now(), &mut context.out)
}

fn missing(name: &ConsumerName) -> Error {
    Error::state(format!("there is no consumer {name}")).hint("List them with `tidegate consumers`.")
}

/// Asks for a change of one consumer.
fn ask<T: serde::de::DeserializeOwned>(
    host: &Client,
    name: &ConsumerName,
    verb: &str,
    body: Bytes,
) -> Result<T, Error> {
    let path = format!("/consumers/{name}/{verb}");
    host.find(Ask::post(&path, JSON, body))?.ok_or_else(|| missing(name))
}

fn draw(detail: &ConsumerDetail, now: Timestamp, out: &mut Output) -> Result<(), Error> {
    let c = &detail.consumer;
    let mut rows = vec![("kind", c.kind.as_str().to_owned()), ("status", status(c)), ("on", c.on.join(", "))];
    rows.extend(detail.paused_since.map(|at| ("paused since", text::time(at))));
    if c.is_ephemeral() {
        rows.push(("running", text::number(c.running)));
        rows.push(("lost", format!("{} since the host's start", text::deliveries(c.ephemeral_lost))));
        rows.push(("component", c.component.clone()));
    } else {
        rows.extend(kept(c, now));
    }
    out.line(text::escape(c.name.as_str()))?;
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        out.line(format!("  {name:<12}  {}", text::escape(value)))?;
    }
    for held in &detail.held {
        out.line(format!(
            "    {}  since {}, by the dead letter {}, {} behind it",
            text::escape(&held.key),
            text::time(held.since),
            text::escape(&held.dead_letter),
            text::number(held.blocked)
        ))?;
    }
    if let Some(held) = detail.held.first() {
        out.tip(format!(
            "Redrive the dead letter with `tidegate dead redrive {}`, or free its key with `tidegate consumers release {} KEY`.",
            text::escape(&held.dead_letter),
            c.name
        ));
    }
    Ok(())
}

/// What the log knows of one, and what keeps it from working.
fn kept(c: &ConsumerRecord, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = vec![("breaker", c.breaker.clone())];
    rows.push(("running", text::number(c.running)));
    rows.push(("depth", text::number(c.depth)));
    rows.push(("waiting", text::number(c.waiting)));
    rows.push(("blocked", text::number(c.blocked)));
    rows.extend(c.oldest_waiting_since.map(|at| ("oldest", text::age(now.since(at)))));
    rows.push(("succeeded", text::number(c.succeeded)));
    rows.push(("failed", text::count(c.failed_attempts, "attempt")));
    rows.push(("dead letters", text::number(c.dead_letters)));
    if c.ephemeral_lost > 0 {
        rows.push(("lost", text::deliveries(c.ephemeral_lost)));
    }
    rows.push(("component", c.component.clone()));
    rows.push(("held keys", text::number(c.held_keys)));
    rows
}

#[derive(Deserialize, serde::Serialize)]
struct Paused {
    consumer: ConsumerName,
    paused: bool,
    changed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ephemeral: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
}

fn change(args: &Change, paused: bool, context: &mut Context) -> Result<(), Error> {
    let host = locate::host(context, &args.reach)?;
    let verb = if paused { "pause" } else { "resume" };
    let answer: Paused = ask(&host, &args.name, verb, Bytes::new())?;
    if args.json {
        return context.out.json(&answer);
    }
    let words = match (paused, answer.changed) {
        (true, true) if answer.removed => "is paused, and removed: nothing of its is attempted in any case",
        (false, true) if answer.removed => "is not paused any more, but removed: it does not go on",
        (true, true) => "is paused: attempts in hand finish, and nothing more is attempted",
        (true, false) => "was paused already",
        (false, true) => "goes on",
        (false, false) => "was not paused",
    };
    context.out.line(format!("{} {words}", answer.consumer))?;
    if paused && answer.ephemeral {
        context
            .out
            .note("note: it is ephemeral, so that events are not kept for it: what comes meanwhile is lost to it");
    }
    if answer.removed {
        context.out.tip(
            "The manifest no longer has it. Put it back there and it goes on with what waits, unless it is paused.",
        );
    } else if paused {
        context.out.tip(format!("Let it go on with `tidegate consumers resume {}`.", answer.consumer));
    }
    Ok(())
}

#[derive(Deserialize, serde::Serialize)]
struct Released {
    consumer: ConsumerName,
    keys: Vec<String>,
}

fn release(args: &Release, context: &mut Context) -> Result<(), Error> {
    let host = locate::host(context, &args.reach)?;
    if args.keys.is_empty() {
        agree(&host, args, context)?;
    }
    let body = Bytes::from(json!({ "keys": args.keys, "all": args.keys.is_empty() }).to_string());
    let released: Released = ask(&host, &args.name, "release", body)?;
    if args.json {
        return context.out.json(&released);
    }
    if released.keys.is_empty() {
        return Err(Error::state("no such key is held")
            .hint(format!("See which keys are held with `tidegate consumers {}`.", args.name)));
    }
    released.keys.iter().try_for_each(|key| context.out.line(format!("released {}", text::escape(key))))
}

fn agree(host: &Client, args: &Release, context: &mut Context) -> Result<(), Error> {
    let detail: Option<ConsumerDetail> = host.find(Ask::get(&format!("/consumers/{}", args.name)))?;
    let held = detail.ok_or_else(|| missing(&args.name))?.consumer.held_keys;
    if held == 0 {
        return Err(Error::state(format!("no key of {} is held", args.name))
            .hint(format!("See what keeps it with `tidegate consumers {}`.", args.name)));
    }
    let question = format!("Release {} of {}? What waits behind them goes on.", text::count(held, "key"), args.name);
    context.confirm(&question, args.yes)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, ok, reply};
    use super::super::tests::{tidegate, with_input};
    use super::*;

    pub(super) fn consumer() -> ConsumerRecord {
        ConsumerRecord {
            name: ConsumerName::new("send-confirmation").unwrap(),
            kind: ConsumerKind::Consumer,
            status: "active".into(),
            on: vec!["order.created".into(), "order.paid".into()],
            component: "consumers/a.wasm".into(),
            running: 2,
            depth: 1_200,
            waiting: 3,
            oldest_waiting_since: Some(Timestamp::from_millis(0)),
            succeeded: 40_000,
            failed_attempts: 7,
            dead_letters: 1,
            paused: false,
            breaker: "closed".into(),
            blocked: 0,
            held_keys: 0,
            ephemeral_lost: 0,
        }
    }

    #[test]
    fn a_consumer_is_one_line() {
        let name = ConsumerName::new("fulfil").unwrap();
        let pipeline = ConsumerRecord { name, kind: ConsumerKind::Pipeline, ..consumer() };
        let lines = table(&[consumer(), pipeline], Timestamp::from_millis(90_000)).lines(None);
        assert_eq!(
            lines,
            [
                "consumer           kind      status  running  depth  waiting  oldest  succeeded  failed attempts  dead  on",
                "send-confirmation  consumer  active        2  1,200        3  1m 30s     40,000                7     1  order.created, order.paid",
                "fulfil             pipeline  active        2  1,200        3  1m 30s     40,000                7     1  order.created, order.paid",
            ]
        );
    }

    fn ephemeral() -> ConsumerRecord {
        ConsumerRecord {
            name: ConsumerName::new("feed").unwrap(),
            status: ConsumerRecord::EPHEMERAL.into(),
            depth: 0,
            waiting: 0,
            oldest_waiting_since: None,
            succeeded: 0,
            failed_attempts: 0,
            dead_letters: 0,
            ephemeral_lost: 12,
            ..consumer()
        }
    }

    /// Nobody is to take "nothing is known" for "nothing has happened".
    #[test]
    fn of_an_ephemeral_one_only_what_is_known_is_shown() {
        let lines = table(&[ephemeral()], Timestamp::from_millis(0)).lines(None);
        assert_eq!(
            lines,
            [
                "consumer  kind      status              running  depth  waiting  oldest  succeeded  failed attempts  dead  on",
                "feed      consumer  ephemeral, 12 lost        2      -        -       -          -                -     -  order.created, order.paid",
            ]
        );
        let detail = ConsumerDetail { consumer: ephemeral(), paused_since: None, held: Vec::new() };
        let detail = serde_json::to_string(&detail).unwrap();
        let host = Fake::start(move |_| ok(&detail));
        let (code, out, _) = tidegate(Some(&host), &["consumers", "feed"]);
        assert_eq!(code, 0);
        assert_eq!(
            out,
            "feed\n  kind          consumer\n  status        ephemeral, 12 lost\n  on            order.created, order.paid\n  \
             running       2\n  lost          12 deliveries since the host's start\n  component     consumers/a.wasm\n"
        );
    }

    #[test]
    fn the_status_says_what_keeps_it_from_working() {
        let with = |change: fn(&mut ConsumerRecord)| {
            let mut record = consumer();
            change(&mut record);
            status(&record)
        };
        assert_eq!(with(|_| {}), "active");
        assert_eq!(with(|c| c.breaker = "open".into()), "breaker open");
        assert_eq!(with(|c| c.breaker = String::new()), "active");
        assert_eq!(with(|c| (c.breaker, c.held_keys) = ("probing".into(), 2)), "breaker probing, 2 keys held");
        assert_eq!(with(|c| (c.paused, c.held_keys) = (true, 1)), "paused");
        assert_eq!(with(|c| (c.paused, c.status) = (true, "removed".into())), "removed");
        assert_eq!(with(|c| c.status = "ephemeral".into()), "ephemeral");
        assert_eq!(with(|c| (c.paused, c.status) = (true, "ephemeral".into())), "ephemeral, paused");
        assert_eq!(with(|c| (c.ephemeral_lost, c.status) = (1_200, "ephemeral".into())), "ephemeral, 1,200 lost");
    }

    fn host() -> Fake {
        let detail = ConsumerDetail {
            consumer: ConsumerRecord { held_keys: 2, ..consumer() },
            paused_since: None,
            held: vec![crate::model::record::HeldKeyRecord {
                key: "o-\u{1b}1".into(),
                dead_letter: "4/send-confirmation".into(),
                since: Timestamp::from_millis(0),
                blocked: 3,
            }],
        };
        let detail = serde_json::to_string(&detail).unwrap();
        Fake::start(move |asked| match asked.line.as_str() {
            "GET /consumers/mail" => ok(&detail),
            "POST /consumers/mail/pause" => ok(r#"{"consumer":"mail","paused":true,"changed":true}"#),
            "POST /consumers/feed/pause" => ok(r#"{"consumer":"feed","paused":true,"changed":false,"ephemeral":true}"#),
            "POST /consumers/gone/resume" => ok(r#"{"consumer":"gone","paused":false,"changed":true,"removed":true}"#),
            "POST /consumers/mail/resume" => ok(r#"{"consumer":"mail","paused":false,"changed":false}"#),
            "POST /consumers/mail/release" => ok(r#"{"consumer":"mail","keys":["a","b"]}"#),
            line if line.contains("/consumers/nobody") => {
                let detail = "There is no such consumer: it is not in the database.";
                reply(404, &json!({ "type": "urn:tidegate:problem:not-found", "detail": detail }).to_string())
            }
            line => panic!("{line}"),
        })
    }

    #[test]
    fn nobody_is_told_to_look_at_the_command_and_not_at_the_path() {
        for arguments in [&["pause", "nobody"][..], &["resume", "nobody"], &["release", "nobody", "k"], &["nobody"]] {
            let (code, _, err) = tidegate(Some(&host()), &[&["consumers"], arguments].concat());
            assert_eq!(code, 4, "{err}");
            assert!(err.contains("there is no consumer nobody") && err.contains("`tidegate consumers`"), "{err}");
            assert!(!err.contains("GET"), "{err}");
        }
    }

    #[test]
    fn one_is_shown_with_its_held_keys() {
        let (code, out, _) = tidegate(Some(&host()), &["consumers", "mail"]);
        assert_eq!(code, 0);
        assert!(out.contains("  held keys     2\n    o-\\x1b1  since 1970-01-01"), "{out}");
        assert!(out.contains("by the dead letter 4/send-confirmation, 3 behind it\n"), "{out}");
        let (_, out, _) = tidegate(Some(&host()), &["consumers", "mail", "--json"]);
        assert!(out.contains(r#""held":[{"key":"o-\u001b1","deadLetter":"4/send-confirmation""#), "{out}");
    }

    #[test]
    fn pausing_says_what_has_changed() {
        let (code, out, _) = tidegate(Some(&host()), &["consumers", "pause", "mail"]);
        assert_eq!(
            (code, out.as_str()),
            (0, "mail is paused: attempts in hand finish, and nothing more is attempted\n")
        );
        let (code, out, err) = tidegate(Some(&host()), &["consumers", "pause", "feed"]);
        assert_eq!((code, out.as_str()), (0, "feed was paused already\n"));
        assert!(err.contains("what comes meanwhile is lost"), "{err}");
        let (code, out, _) = tidegate(Some(&host()), &["consumers", "resume", "mail"]);
        assert_eq!((code, out.as_str()), (0, "mail was not paused\n"));
        let (code, out, _) = tidegate(Some(&host()), &["consumers", "resume", "gone"]);
        assert_eq!((code, out.as_str()), (0, "gone is not paused any more, but removed: it does not go on\n"));
    }

    #[test]
    fn releasing_all_asks() {
        let fake = host();
        let (code, _, err) = tidegate(Some(&fake), &["consumers", "release", "mail"]);
        assert_eq!(code, 2, "{err}");
        let (code, out, err) = with_input(Some(&fake), &["consumers", "release", "mail"], Some(("y\n", true)));
        assert_eq!((code, out.as_str()), (0, "released a\nreleased b\n"));
        assert!(err.starts_with("Release 2 keys of mail?"), "{err}");
        let (code, ..) = tidegate(Some(&fake), &["consumers", "release", "mail", "a", "b"]);
        assert_eq!(code, 0);
        let bodies: Vec<String> = fake.asked().into_iter().map(|asked| asked.body).filter(|b| !b.is_empty()).collect();
        assert_eq!(bodies, [r#"{"keys":[],"all":true}"#, r#"{"keys":["a","b"],"all":false}"#]);
    }
}
