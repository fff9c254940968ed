use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::Context;
use super::args::{Reach, duration};
use super::backend;
use super::client::{self, Ask, Client};
use super::error::Error;
use super::locate;
use super::stream;
use super::text;
use crate::model::job::RETRY_ATTEMPTS_MAX;
use crate::model::limit::EVENT_BYTES;
use crate::model::record::ConsumerRecord;
use crate::model::retry::{Backoff, RetryPolicy};
use crate::model::spec::ConsumerKind;
use crate::model::{ConsumerName, Job, Priority, Seq, Timestamp, TypePattern, route};

/// Where an event comes from if nobody says.
const SOURCE: &str = "/cli";
/// The type of a job that is given none.
const JOB_TYPE: &str = "job.requested";
/// Data larger than this, in bytes, is read by no host.
const DATA_BYTES_MAX: u64 = 256 * EVENT_BYTES as u64;

/// Send events to the running host. Returns when they are durable.
///
/// One: `tidegate emit order.created '{"orderId": "A-17"}'`. Many, one JSON object a line:
/// `tidegate emit --ndjson < orders.ndjson`.
///
/// A job, for one consumer alone: `tidegate emit --to mailer '{"orderId": "A-17"}'`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Type of the event: dotted, past tense, such as order.created. A job may be without; then it is job.requested.
    #[arg(value_name = "TYPE", required_unless_present_any = ["ndjson", "to"], value_parser = event_type)]
    event_type: Option<String>,
    /// The payload, in JSON.
    #[arg(value_name = "DATA", conflicts_with = "file")]
    data: Option<String>,
    /// The payload, for whoever expects a name before it.
    #[arg(long = "data", value_name = "DATA", hide = true, conflicts_with_all = ["data", "file", "ndjson"])]
    named: Option<String>,
    /// Read the payload, or with --ndjson the events, from a file; `-` is standard input.
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Read events, one JSON object a line, from standard input or --file. TYPE is for those that name none.
    #[arg(long, conflicts_with_all = ["data", "id", "subject", "correlation", "key", "data_version", "not_before", "delay", "attributes", "to"])]
    ndjson: bool,
    /// Id, unique within the source. The same id again is accepted once.
    #[arg(long)]
    id: Option<String>,
    /// Who says so.
    #[arg(long, default_value = SOURCE)]
    source: String,
    /// What it is about.
    #[arg(long)]
    subject: Option<String>,
    /// Correlation id.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Ordering key.
    #[arg(long)]
    key: Option<String>,
    /// Version of the payload's schema.
    #[arg(long, value_name = "SEMVER")]
    data_version: Option<String>,
    /// Deliver no earlier.
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    not_before: Option<Timestamp>,
    /// Deliver no earlier than so long from now.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "not_before")]
    delay: Option<Duration>,
    #[command(flatten)]
    job: JobArgs,
    /// Another attribute; the value is JSON, or else text. Can be repeated.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, Value)>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What makes an event a job.
#[derive(clap::Args, Debug)]
struct JobArgs {
    /// Make it a job: deliver it to this consumer, whatever that subscribes to, and to no other.
    #[arg(long, value_name = "CONSUMER", value_parser = ConsumerName::new)]
    to: Option<ConsumerName>,
    /// Whether the job goes before others of its consumer, or behind them.
    #[arg(long, value_name = "PRIORITY", requires = "to", default_value = "normal", value_parser = ["low", "normal", "high"])]
    priority: String,
    /// How often the job is attempted in all, instead of what the consumer says. The other --retry- options are then as in a
    /// manifest that does not say.
    #[arg(long, value_name = "N", requires = "to", value_parser = clap::value_parser!(u32).range(1..=i64::from(RETRY_ATTEMPTS_MAX)))]
    retry_attempts: Option<u32>,
    /// How the delay between attempts grows.
    #[arg(long, value_name = "HOW", requires = "to", value_parser = ["exponential", "linear", "fixed"])]
    retry_backoff: Option<String>,
    /// The delay after the first attempt.
    #[arg(long, value_name = "DURATION", requires = "to", value_parser = duration)]
    retry_initial: Option<Duration>,
    /// No delay is longer.
    #[arg(long, value_name = "DURATION", requires = "to", value_parser = duration)]
    retry_max: Option<Duration>,
}

impl JobArgs {
    fn job(&self) -> Option<Job> {
        let priority = Priority::parse(&self.priority).unwrap_or_default();
        Some(Job { to: self.to.clone()?, priority, retry: self.retry() })
    }

    fn retry(&self) -> Option<RetryPolicy> {
        let Self { retry_attempts, retry_backoff, retry_initial, retry_max, .. } = self;
        let own = retry_attempts.is_some() || retry_backoff.is_some() || retry_initial.is_some() || retry_max.is_some();
        let usual = RetryPolicy::default();
        let policy = RetryPolicy {
            attempts: retry_attempts.unwrap_or(usual.attempts),
            backoff: match retry_backoff.as_deref() {
                Some("linear") => Backoff::Linear,
                Some("fixed") => Backoff::Fixed,
                _ => Backoff::Exponential,
            },
            initial: retry_initial.unwrap_or(usual.initial),
            max: retry_max.unwrap_or(usual.max),
            ..usual
        };
        own.then_some(policy)
    }
}

/// An event as the host takes it. Its id is made here, so that it can be sent again when an answer was lost.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Draft<'a> {
    id: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Job>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    attributes: Map<String, Value>,
    /// As it was given, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// What the host says about events that it took.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Taken {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) events: Vec<TakenEvent>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct TakenEvent {
    pub(super) id: String,
    pub(super) sequence: Seq,
    #[serde(default)]
    pub(super) duplicate: bool,
}

/// What can only be data is left to [`named`].
fn event_type(text: &str) -> Result<String, String> {
    if text.starts_with(['{', '[', '"']) {
        return Ok(text.to_owned());
    }
    route::check_type(text)?;
    if route::is_host_type(text) {
        return Err("types that begin with 'tidegate' are the host's own".into());
    }
    Ok(text.to_owned())
}

fn attribute(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return Err("an attribute's name has only a-z and 0-9".into());
    }
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))))
}

/// A job needs no type, so that what stands in its place may be the data.
fn named(mut args: Args) -> Result<Args, Error> {
    let data = args.event_type.take_if(|text| text.starts_with(['{', '[', '"']));
    if let Some(data) = data {
        if args.job.to.is_none() || args.data.is_some() || args.ndjson {
            return Err(Error::usage(format!("'{}' is no type of an event", text::cut(&data, 40)))
                .hint("Give the type before the payload: `tidegate emit order.created '{…}'`."));
        }
        args.data = Some(data);
    }
    if args.job.to.is_some() {
        args.event_type.get_or_insert_with(|| JOB_TYPE.to_owned());
    }
    Ok(args)
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Error> {
    let args = named(args)?;
    if args.ndjson {
        return many(&args, context);
    }
    let given = args.data.as_ref().or(args.named.as_ref());
    let data = payload(given.map(String::as_str), args.file.as_deref(), context)?;
    let host = locate::host(context, &args.reach)?;
    let delayed = args.delay.map(|delay| context.now().plus(delay));
    let body = draft(&args, delayed, data.as_deref(), new_id(context)?)?;
    let taken = sent(&host, &body, context)?;
    let event = taken.events.first().ok_or_else(|| {
        Error::environment("the host did not say what became of the event").hint("Look with `tidegate events`.")
    })?;
    if args.json {
        return context.out.json(event);
    }
    let (id, seq) = (text::escape(&event.id), event.sequence);
    if event.duplicate {
        return context.out.line(format!("duplicate: the event {id} was accepted before, as #{seq}"));
    }
    context.out.line(format!("accepted #{seq}  {id}"))?;
    let seeks = args.job.to.is_none();
    if seeks && context.out.is_terminal() && is_for_nobody(&host, args.event_type.as_deref().unwrap_or_default()) {
        context.out.tip(
            "No consumer subscribes to its type, so nothing comes of it: `tidegate consumers` shows who wants what.",
        );
    } else {
        context.out.tip(format!("See what comes of it with `tidegate event {seq}`."));
    }
    Ok(())
}

/// Whether no deployed consumer wants the type. Who may send may not be allowed to look: then nothing is said.
fn is_for_nobody(host: &Client, event_type: &str) -> bool {
    let wants = |on: &String| {
        let pattern = on.split(' ').next().unwrap_or_default();
        TypePattern::new(pattern).is_ok_and(|pattern| pattern.matches(event_type))
    };
    let Ok(consumers) = backend::consumers(host) else { return false };
    // A pipeline that is removed still takes what its open runs wait for.
    let takes = |of: &ConsumerRecord| of.status != ConsumerRecord::REMOVED || of.kind == ConsumerKind::Pipeline;
    !consumers.iter().any(|consumer| takes(consumer) && consumer.on.iter().any(wants))
}

/// Sends the event until there is room for it. It has an id, so it could not be accepted twice.
fn sent(host: &Client, body: &Bytes, context: &mut Context) -> Result<Taken, Error> {
    let mut said = false;
    loop {
        match host.json(Ask::post("/events", "application/json", body.clone())) {
            Err(client::Error::Problem(problem)) if problem.status == 429 => {
                stream::await_room(&problem, "not accepted yet", &mut said, host, context)?;
            }
            answer => return answer.map_err(told),
        }
    }
}

fn draft(args: &Args, delayed: Option<Timestamp>, data: Option<&RawValue>, id: String) -> Result<Bytes, Error> {
    let draft = Draft {
        id: args.id.clone().unwrap_or(id),
        event_type: args.event_type.as_deref().unwrap_or_default(),
        source: &args.source,
        subject: args.subject.as_deref(),
        correlation_id: args.correlation.as_deref(),
        key: args.key.as_deref(),
        data_version: args.data_version.as_deref(),
        not_before: args.not_before.or(delayed),
        job: args.job.job(),
        attributes: args.attributes.iter().cloned().collect(),
        data,
    };
    serde_json::to_vec(&draft).map(Bytes::from).map_err(|e| Error::bug("cannot write JSON").because(e))
}

/// An id is taken: the one refusal that a person meets on a good day.
fn told(e: client::Error) -> Error {
    match e {
        client::Error::Problem(problem) if problem.status == 409 && problem.hint.is_none() => Error::from(
            client::Error::Problem(problem),
        )
        .hint("Give the event another `--id` if it is another fact; look at the first with `tidegate event ID`."),
        e => e.into(),
    }
}

/// A UUIDv7: time first, so that ids sort as they were made.
pub(super) fn new_id(context: &Context) -> Result<String, Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|e| Error::environment(format!("the system gives no random numbers: {e}")))?;
    let millis = u64::try_from(context.now().as_millis()).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string())
}

/// The payload, from the argument or the file; checked to be JSON and otherwise left as it is.
pub(super) fn payload(
    given: Option<&str>,
    file: Option<&Path>,
    context: &mut Context,
) -> Result<Option<Box<RawValue>>, Error> {
    let (text, from) = match (given, file) {
        (Some(text), _) => (text.to_owned().into_bytes(), "DATA".to_owned()),
        (None, Some(path)) => (read(path, context)?, name_of(path)),
        (None, None) => return Ok(None),
    };
    let text = String::from_utf8(text).map_err(|_| {
        Error::usage(format!("{from} is not UTF-8"))
            .hint("A payload is JSON text in UTF-8; encode bytes in base64 inside a string.")
    })?;
    match RawValue::from_string(text.trim().to_owned()) {
        Ok(raw) => Ok(Some(raw)),
        Err(e) => {
            let error = Error::usage(format!("{from} is not JSON: {e}"));
            Err(match to_raw_value(text.trim()) {
                Ok(quoted) if given.is_some() && !text.trim_start().starts_with(['{', '[']) => {
                    error.hint(format!("If it is meant as text, quote it for JSON: '{quoted}'."))
                }
                _ => error.hint("Check the quotes: in a shell, put the whole payload in single quotes."),
            })
        }
    }
}

fn read(path: &Path, context: &mut Context) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let result = if path == Path::new("-") {
        context.input.as_mut().take(DATA_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        open(path)?.take(DATA_BYTES_MAX).read_to_end(&mut bytes)
    };
    result.map(|_| bytes).map_err(|e| Error::environment(format!("cannot read {}", name_of(path))).because(e))
}

fn open(path: &Path) -> Result<std::fs::File, Error> {
    std::fs::File::open(path).map_err(|e| {
        Error::environment(format!("cannot open {}", path.display()))
            .because(e)
            .hint("Check the path and who may read it.")
    })
}

fn name_of(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

fn many(args: &Args, context: &mut Context) -> Result<(), Error> {
    let host: Client = locate::host(context, &args.reach)?;
    let path = args.file.as_deref().unwrap_or(Path::new("-"));
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::mem::replace(&mut context.input, Box::new(std::io::empty())))
    } else {
        Box::new(open(path)?)
    };
    let defaults = stream::Defaults { event_type: args.event_type.clone(), source: args.source.clone() };
    let mut total = stream::Total::default();
    let result = stream::send(input, &name_of(path), &defaults, &host, &mut total, context);
    if args.json {
        context.out.json(&total)?;
    } else {
        context.out.line(total.to_string())?;
    }
    result
}

#[cfg(test)]
#[path = "emit_tests.rs"]
mod tests;
