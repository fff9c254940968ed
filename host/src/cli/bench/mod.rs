//! `tidegate bench`: what a host of this build does on this machine. The host is a process of its own, on a database of its own,
//! and is measured from outside, as a producer sees it.

mod attempt;
mod bed;
mod figures;
mod history;
mod load;
mod restart;
mod spread;
mod subject;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use self::bed::{Bed, Deployed, Grants, RUN_TYPE};
use self::figures::{Figures, Setting, Unit, words};
use self::load::{Target, Watched};
use self::subject::Subject;
use super::Context;
use super::args::duration;
use super::error::Error;
use super::text;

/// A handler that does nothing.
const NOTHING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nothing.wasm"));
/// Clients at once, where there are many.
const CLIENTS: usize = 64;
/// Events that differ; then they come again.
const EVENTS: usize = 1_000;
/// Starts that are measured, of which the middle one counts.
const STARTS: usize = 3;

/// Measure this build on this machine: how much it takes and settles, how fast, and at what cost.
///
/// Starts a host of its own on a database of its own, in a folder that is taken away afterwards. Hosts and databases that are there
/// stay as they are. Events are orders of some 450 bytes and the consumer does nothing with them, unless you name others.
/// Numbers of one machine and moment compare only with numbers of the same: run both, and look at the ratio.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The consumer to measure: a compiled component with a handler. It may keep state and publish; it can call nobody.
    #[arg(long, value_name = "PATH")]
    component: Option<PathBuf>,
    /// What each event carries: a file with JSON. An order unless given.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The type of the events.
    #[arg(long = "type", value_name = "TYPE", default_value = "order.created")]
    event_type: String,
    /// Where the database is kept meanwhile: a folder that is empty or does not exist, on the disk to be measured.
    #[arg(long, value_name = "PATH", default_value = "tidegate-bench")]
    folder: PathBuf,
    /// Measure only these. All but `history` unless given.
    #[arg(long, value_name = "MEASURE", value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
    /// How long each load lasts.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    time: Duration,
    /// Events a second where the latency at a fixed rate is measured.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Consumers that are deployed. One of them gets the events; with `fan-out`, one hundred others.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    consumers: u32,
    /// Attempts at once of each consumer, as its `concurrency` in a manifest.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Events that are pending when a host starts again.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pending: u32,
    /// Events in the long log of `history`: ten million are some ten gigabytes, and minutes to fill.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    history: u32,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Measure {
    /// From the start of the process until the first event is settled, with the component compiled before.
    Start,
    /// From the start of the process until it is ready and the first event is settled, with `--pending` events that are still to be
    /// delivered; and until it is ready after a crash.
    Restart,
    /// Accepted, an event a request: one client, then 64.
    Accept,
    /// Accepted and settled, all events in one request; with memory and bytes written.
    Stream,
    /// From when an event is to be sent until its outcome is told, at a fixed rate.
    Latency,
    /// Settled deliveries where each event is for a hundred consumers.
    FanOut,
    /// Runs of a pipeline of three steps.
    Runs,
    /// An attempt by itself, inside the sandbox.
    Attempt,
    /// Settled with `--history` events in the log, over settled with ten thousand. Only where it is asked for: the log must be filled.
    History,
}

const ALL: [Measure; 8] = [
    Measure::Start,
    Measure::Restart,
    Measure::Accept,
    Measure::Stream,
    Measure::Latency,
    Measure::FanOut,
    Measure::Runs,
    Measure::Attempt,
];
/// Consumers of each event in [`Measure::FanOut`]; and of its time, in milliseconds, what is meant for one event.
const FAN_OUT: u32 = 100;
const FAN_OUT_MILLIS: u128 = 4;
/// For a load that ends with its last event.
const AS_LONG_AS_IT_TAKES: Duration = Duration::from_secs(3_600);

/// Everything that a measure needs.
struct Bench<'a> {
    args: &'a Args,
    bed: Bed,
    component: Bytes,
    data: Vec<Value>,
    databases: u32,
    figures: Figures,
    context: &'a mut Context,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let component = component(args)?;
    let data = data(args)?;
    let figures = Figures { setting: setting(args, &component, &data), figures: Vec::new() };
    let bed = Bed::make(&args.folder, &component)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::environment("cannot start the clients").because(e))?;
    let mut bench = Bench { args, bed, component, data, databases: 0, figures, context };
    if !cfg!(target_os = "linux") {
        bench.context.out.note("memory, processor time and bytes written are not measured on this system");
    }
    let wanted = if args.only.is_empty() { ALL.to_vec() } else { args.only.clone() };
    runtime.block_on(async {
        tokio::select! {
            done = bench.all(&wanted) => done,
            _ = tokio::signal::ctrl_c() => Err(Error::interrupted()),
        }
    })?;
    let Bench { figures, bed, context, .. } = bench;
    drop(bed);
    show(&figures, args.json, context)
}

impl Bench<'_> {
    async fn all(&mut self, wanted: &[Measure]) -> Result<(), Error> {
        // Compiles the component and finds out whether it works at all: what fails is not measured.
        self.progress("looking whether the component works");
        let (subject, target) = self.start(&self.deployed())?;
        target.settled_through(target.one().await?).await?;
        self.stop(subject, &target).await?;
        for (index, measure) in wanted.iter().enumerate() {
            self.progress(&format!("{} of {}: {}", index + 1, wanted.len(), measure.words()));
            match measure {
                Measure::Start => self.starts().await?,
                Measure::Restart => self.restart().await?,
                Measure::Accept => self.accept().await?,
                Measure::Stream => self.stream().await?,
                Measure::Latency => self.latency().await?,
                Measure::FanOut => self.fan_out().await?,
                Measure::Runs => self.runs().await?,
                Measure::Attempt => self.attempt().await?,
                Measure::History => self.history().await?,
            }
        }
        Ok(())
    }

    async fn starts(&mut self) -> Result<(), Error> {
        let mut times = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            let began = self.context.clock.monotonic();
            let (subject, target) = self.start(&self.deployed())?;
            let ready = self.since(began);
            target.settled_through(target.one().await?).await?;
            times.push((self.since(began), ready));
            self.stop(subject, &target).await?;
        }
        times.sort_unstable();
        if let Some((first, ready)) = times.get(STARTS / 2) {
            self.figures.time("start.ready", *ready);
            self.figures.time("start.first", *first);
        }
        Ok(())
    }

    async fn accept(&mut self) -> Result<(), Error> {
        for clients in [1, CLIENTS] {
            let (subject, target) = self.start(&self.deployed())?;
            let mut taken = target.closed(clients, self.args.time).await?;
            self.figures.rate(format!("accept.{clients}.rate"), taken.events, taken.in_time);
            self.figures.spread(&format!("accept.{clients}"), &mut taken.spread);
            target.settled().await?;
            self.stop(subject, &target).await?;
        }
        Ok(())
    }

    async fn stream(&mut self) -> Result<(), Error> {
        let (subject, target) = self.start(&self.deployed())?;
        target.settled_through(target.one().await?).await?;
        self.figures.bytes("memory.idle", subject.memory().map(|(now, _)| now));
        let (written, processor) = (subject.written(), subject.processor());
        let start = self.context.clock.monotonic();
        let taken = target.streamed(self.args.time, u64::MAX).await?;
        target.settled().await?;
        let in_time = self.since(start);
        self.figures.rate("stream.accepted", taken.events, taken.in_time);
        self.figures.rate("stream.settled", taken.events, in_time);
        if let Some((before, after)) = processor.zip(subject.processor()) {
            let each = after.saturating_sub(before).as_secs_f64() / per(taken.events);
            self.figures.add("stream.processor", each * 1e6, Unit::Microseconds);
        }
        let payload = taken.events * self.figures.setting.payload_bytes as u64;
        if let Some((before, after)) = written.zip(subject.written()) {
            let beyond = after.saturating_sub(before).saturating_sub(payload);
            #[expect(clippy::cast_precision_loss, reason = "shown in three digits")]
            self.figures.add("stream.written", beyond as f64 / per(taken.events), Unit::Bytes);
        }
        self.figures.bytes("memory.peak", subject.memory().map(|(_, most)| most));
        self.stop(subject, &target).await
    }

    async fn latency(&mut self) -> Result<(), Error> {
        let (subject, target) = self.start(&self.deployed())?;
        target.settled_through(target.one().await?).await?;
        let mut spread = target.at_rate(self.args.rate, CLIENTS, self.args.time, Watched::Outcomes).await?;
        self.figures.spread(&format!("latency.{}", self.args.rate), &mut spread);
        self.stop(subject, &target).await
    }

    async fn fan_out(&mut self) -> Result<(), Error> {
        let (subject, target) = self.start(&Deployed { fan_out: FAN_OUT, ..self.deployed() })?;
        let start = self.context.clock.monotonic();
        // Each event is a hundred deliveries, and acceptance runs far ahead of them.
        let most = self.args.time.as_millis() / FAN_OUT_MILLIS;
        let taken = target.streamed(self.args.time, u64::try_from(most).unwrap_or(u64::MAX)).await?;
        target.settled().await?;
        let in_time = self.since(start);
        self.figures.rate("fan-out.settled", taken.events * u64::from(FAN_OUT), in_time);
        self.stop(subject, &target).await
    }

    async fn runs(&mut self) -> Result<(), Error> {
        let (subject, target) = self.start(&self.deployed())?;
        let target = Target { events: events(RUN_TYPE, &self.data), ..target };
        let start = self.context.clock.monotonic();
        let taken = target.closed(CLIENTS, self.args.time).await?;
        target.settled().await?;
        let in_time = self.since(start);
        self.figures.rate("runs.settled", taken.events, in_time);
        let mut spread = target.at_rate(self.args.rate, CLIENTS, self.args.time, Watched::Runs).await?;
        self.figures.spread(&format!("runs.{}", self.args.rate), &mut spread);
        self.stop(subject, &target).await
    }

    async fn attempt(&mut self) -> Result<(), Error> {
        // Only for the clock and the events: no host is asked.
        let base = super::client::Base { authority: String::new() };
        let target = self.target(base);
        let mut cost = attempt::measure(&self.bed, self.component.clone(), &target, self.args.time).await?;
        let each = cost.in_time.as_secs_f64() / per(cost.attempts);
        self.figures.add("attempt.cost", each * 1e6, Unit::Microseconds);
        for (word, share) in [("p50", 500), ("p99", 990)] {
            if let Some(time) = cost.spread.per_mille(share) {
                self.figures.add(format!("attempt.{word}"), time.as_secs_f64() * 1e6, Unit::Microseconds);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of instructions")]
        self.figures.add("attempt.fuel", cost.fuel as f64, Unit::Count);
        Ok(())
    }

    fn deployed(&self) -> Deployed {
        let Args { event_type, consumers, concurrency, .. } = self.args;
        let grants = Grants::of(&self.component);
        let (consumers, concurrency) = (*consumers, *concurrency);
        Deployed { event_type: event_type.clone(), consumers, concurrency, fan_out: 1, grants, database: 0 }
    }

    /// A host on a database of its own.
    fn start(&mut self, deployed: &Deployed) -> Result<(Subject, Target), Error> {
        self.databases += 1;
        self.start_on(&Deployed { database: self.databases, ..deployed.clone() })
    }

    /// A host on the database that is named.
    fn start_on(&self, deployed: &Deployed) -> Result<(Subject, Target), Error> {
        self.bed.deploy(deployed)?;
        let subject = Subject::start(&self.bed)?;
        let target = self.target(subject.base.clone());
        Ok((subject, target))
    }

    fn target(&self, base: super::client::Base) -> Target {
        Target { base, clock: self.context.clock.clone(), events: events(&self.args.event_type, &self.data) }
    }

    /// Ends a measure; what was measured must have gone well.
    async fn stop(&mut self, subject: Subject, target: &Target) -> Result<(), Error> {
        let stats: Value = serde_json::from_slice(&target.get("/stats").await?).unwrap_or_default();
        let wrong = stats.get("outcomes").and_then(Value::as_object).into_iter().flatten();
        let wrong = wrong.filter_map(|(word, count)| Some((word, count.as_u64()?)));
        let wrong: Vec<(&String, u64)> = wrong.filter(|(word, count)| *word != "done" && *count > 0).collect();
        if let Some((word, _)) = wrong.first() {
            let many = wrong.iter().map(|(_, count)| count).sum();
            let path = format!("/outcomes?outcome={word}&limit=1");
            let page: Value = serde_json::from_slice(&target.get(&path).await?).unwrap_or_default();
            let reason = page.pointer("/outcomes/0/reason").and_then(Value::as_str);
            return Err(failed(word, reason, many));
        }
        subject.stop()
    }

    fn since(&self, began: Duration) -> Duration {
        self.context.clock.monotonic().saturating_sub(began)
    }

    fn progress(&mut self, what: &str) {
        self.context.out.progress(what);
    }
}

impl Measure {
    fn words(self) -> &'static str {
        match self {
            Self::Start => "how fast it starts",
            Self::Restart => "how fast it starts again",
            Self::Accept => "how many events it accepts, one at a time",
            Self::Stream => "how many events it settles, streamed in",
            Self::Latency => "how long an event takes",
            Self::FanOut => "how many deliveries it settles",
            Self::Runs => "how many runs of a pipeline it ends",
            Self::Attempt => "what an attempt costs",
            Self::History => "what a long history costs",
        }
    }
}

/// What does not work is not measured.
fn failed(outcome: &str, reason: Option<&str>, many: u64) -> Error {
    let mut error = Error::state(format!(
        "the component failed: {} ended as '{outcome}'",
        text::count(many, "attempt")
    ))
    .hint(
        "How fast it fails says nothing. Mend it; or give it events that it understands, with `--type` and `--data`.",
    );
    error.details.extend(reason.map(|reason| format!("it says: {reason}")));
    error
}

#[expect(clippy::cast_precision_loss, reason = "a mean")]
fn per(many: u64) -> f64 {
    many.max(1) as f64
}

fn component(args: &Args) -> Result<Bytes, Error> {
    let Some(path) = &args.component else { return Ok(Bytes::from_static(NOTHING)) };
    std::fs::read(path).map(Bytes::from).map_err(|e| {
        Error::environment(format!("cannot read {}", path.display()))
            .because(e)
            .hint("Name a compiled component, a `.wasm` file; `tidegate new` begins one.")
    })
}

/// What the events carry.
fn data(args: &Args) -> Result<Vec<Value>, Error> {
    let Some(path) = &args.data else { return Ok((0..EVENTS).map(order).collect()) };
    let text = std::fs::read(path);
    let text = text.map_err(|e| Error::environment(format!("cannot read {}", path.display())).because(e))?;
    let data = serde_json::from_slice(&text);
    data.map(|data| vec![data; EVENTS]).map_err(|e| Error::usage(format!("{} is not JSON", path.display())).because(e))
}

/// An order of some 450 bytes.
fn order(index: usize) -> Value {
    let item = |k: usize| json!({ "sku": format!("SKU-{:05}", index + k), "quantity": k + 1, "price": format!("{}.99", k * 7) });
    json!({
        "orderId": format!("ord-{index}"),
        "customerId": format!("cus-{}", index % 500),
        "total": format!("{}.5", index % 1_000),
        "currency": "EUR",
        "items": (0..7).map(item).collect::<Vec<_>>(),
    })
}

fn events(event_type: &str, data: &[Value]) -> Arc<[Bytes]> {
    let event = |data: &Value| json!({ "type": event_type, "source": "/bench", "data": data }).to_string();
    data.iter().map(|data| Bytes::from(event(data))).collect()
}

fn setting(args: &Args, component: &Bytes, data: &[Value]) -> Setting {
    let sum: usize = data.iter().map(|data| data.to_string().len()).sum();
    let uname = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: String, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).map(ToOwned::to_owned);
        line.and_then(|line| line.split_once(':').map(|(_, value)| value.trim().to_owned()))
    };
    let kib = after(read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    Setting {
        tidegate: env!("CARGO_PKG_VERSION"),
        wasmtime: crate::sandbox::WASMTIME,
        sqlite: crate::store::sqlite_version(),
        release: !cfg!(debug_assertions),
        durability: "SQLite in WAL mode, synchronous=FULL: nothing is acknowledged before it is on disk",
        system: format!("{} {} {}", word(uname.sysname()), word(uname.release()), word(uname.machine())),
        processor: after(read("/proc/cpuinfo"), "model name"),
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: kib.map(|kib| kib << 10),
        component: args
            .component
            .as_ref()
            .map_or_else(|| "built in, does nothing".into(), |path| path.display().to_string()),
        component_bytes: component.len(),
        event_type: args.event_type.clone(),
        payload_bytes: sum / data.len().max(1),
        consumers: args.consumers,
        concurrency: args.concurrency,
    }
}

fn show(figures: &Figures, as_json: bool, context: &mut Context) -> Result<(), Error> {
    if as_json {
        return context.out.json(figures);
    }
    let Setting { tidegate, wasmtime, sqlite, durability, system, processors, component, .. } = &figures.setting;
    let processor = figures.setting.processor.as_deref().unwrap_or("unknown processor");
    let memory = figures.setting.memory_bytes.map_or_else(String::new, |bytes| format!(", {}", text::bytes(bytes)));
    let build = if figures.setting.release { "" } else { " (a debug build: its numbers say nothing)" };
    context.out.line(format!("tidegate {tidegate}{build}, wasmtime {wasmtime}, SQLite {sqlite}"))?;
    context.out.line(format!("{processors} × {processor}{memory}, {system}"))?;
    context.out.line(durability)?;
    let Setting { payload_bytes: payload, consumers, concurrency, .. } = figures.setting;
    context.out.line(format!(
        "{} deployed, each with up to {concurrency} attempts at once; component: {component}; events of {payload} bytes of JSON",
        text::count(consumers.into(), "consumer")
    ))?;
    let rows =
        figures.figures.iter().map(|figure| vec![figure.name.clone(), figure.shown(), words(&figure.name).to_owned()]);
    context.out.line("")?;
    let table = text::Table { head: &["measure", "value", "what it is"], right: &[1], rows: rows.collect() };
    context.out.table(&table)
}
