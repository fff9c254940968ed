use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;

use crate::log::Feed;

use super::*;
use crate::log::memory::MemoryLog;
use crate::log::{Commit, Pending};
use crate::model::event::Event;
use crate::model::schedule::Slots;
use crate::model::spec::{Ceilings, Retention, ServerSpec};

/// A wall clock that is set, and a sleep that ends when a test says so.
struct Wall {
    now: Mutex<Timestamp>,
    monotonic: watch::Sender<Duration>,
}

impl Wall {
    fn at(text: &str) -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(at(text)), monotonic: watch::Sender::new(Duration::ZERO) })
    }

    fn set(&self, text: &str) {
        *self.now.lock().unwrap() = at(text);
    }

    fn pass(&self, by: Duration) {
        let mut now = self.now.lock().unwrap();
        *now = now.plus(by);
        drop(now);
        self.monotonic.send_modify(|monotonic| *monotonic += by);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        *self.monotonic.borrow()
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut monotonic = self.monotonic.subscribe();
        Box::pin(async move {
            let _reached = monotonic.wait_for(|monotonic| *monotonic >= at).await;
        })
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn deployment(schedules: &[(&str, &str, &str)]) -> Arc<Deployment> {
    let spec = |cron: &str, zone: &str| ScheduleSpec {
        slots: Slots::new(cron, zone).unwrap(),
        event_type: "report.requested".into(),
        data_version: "2.1.0".into(),
        subject: Some("daily".into()),
        key: Some("k".into()),
        data: Some(serde_json::json!({ "kind": "daily" })),
    };
    let schedules = schedules.iter().map(|(name, cron, zone)| ((*name).to_owned(), spec(cron, zone))).collect();
    let month = Duration::from_secs(30 * 86_400);
    Arc::new(Deployment {
        server: ServerSpec {
            listen: ([127, 0, 0, 1], 0).into(),
            hosts: Vec::new(),
            tokens: Vec::new(),
            grace: Duration::ZERO,
        },
        database: "tidegate.db".into(),
        folder: None,
        retention: Retention { events: month, outcomes: month },
        ceilings: Ceilings::default(),
        events: BTreeMap::new(),
        consumers: BTreeMap::new(),
        pipelines: BTreeMap::new(),
        schedules,
    })
}

/// A host with a log, a clock and a manifest.
struct Host {
    clock: Arc<Wall>,
    log: Arc<MemoryLog>,
    feed: Feed,
    manifest: watch::Sender<Arc<Deployment>>,
    schedules: Schedules,
}

impl Host {
    fn new(now: &str, schedules: &[(&str, &str, &str)]) -> Self {
        let clock = Wall::at(now);
        let (log, feed) = MemoryLog::new(clock.clone());
        Self::on(clock, Arc::new(log), feed, deployment(schedules))
    }

    fn on(clock: Arc<Wall>, log: Arc<MemoryLog>, feed: Feed, manifest: Arc<Deployment>) -> Self {
        let manifest = watch::Sender::new(manifest);
        let options = Options { log: log.clone(), clock: clock.clone(), deployments: manifest.subscribe() };
        Self { clock, log, feed, manifest, schedules: Schedules::new(options) }
    }

    /// The same manifest and log, after a crash.
    fn restart(self) -> Self {
        let manifest = Arc::clone(&self.manifest.borrow());
        let (log, feed) = self.log.reopen();
        Self::on(self.clock, Arc::new(log), feed, manifest)
    }

    fn reload(&mut self, schedules: &[(&str, &str, &str)]) {
        self.manifest.send_replace(deployment(schedules));
        self.schedules.stale = true;
    }

    fn events(&mut self) -> Vec<Arc<Event>> {
        let mut events = Vec::new();
        while let Ok(commit) = self.feed.try_recv() {
            if let Commit::Events(new) = commit {
                events.extend(new);
            }
        }
        events
    }

    /// Sets the clock and lets everything fire that is due; the slots that fired.
    async fn fired_at(&mut self, now: &str) -> Vec<String> {
        self.clock.set(now);
        self.schedules.step().await.unwrap();
        self.schedules.step().await.unwrap();
        let name = |source: &str| source.trim_start_matches(SCHEDULE_SOURCE_PREFIX).to_owned();
        let shown = |event: &Arc<Event>| format!("{} {}", name(&event.envelope.source), event.envelope.id);
        self.events().iter().map(|event| shown(event).replace(":00.000Z", "Z")).collect()
    }
}

const DAILY: &[(&str, &str, &str)] = &[("daily", "0 3 * * *", "UTC")];
const NONE: [&str; 0] = [];

#[tokio::test]
async fn a_slot_fires_once_and_says_which() {
    let mut host = Host::new("2026-03-01T02:00:00Z", DAILY);
    assert_eq!(host.fired_at("2026-03-01T02:59:59Z").await, NONE);
    host.clock.set("2026-03-01T03:00:00Z");
    host.schedules.step().await.unwrap();
    let events = host.events();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    let envelope = &event.envelope;
    assert_eq!(envelope.source, "/tidegate/schedules/daily");
    assert_eq!((envelope.id.as_str(), envelope.timestamp), ("2026-03-01T03:00:00.000Z", at("2026-03-01T03:00:00Z")));
    assert_eq!(envelope.attributes["slot"], "2026-03-01T03:00:00.000Z");
    assert_eq!((envelope.event_type.as_str(), envelope.data_version.as_str()), ("report.requested", "2.1.0"));
    assert_eq!(envelope.payload.as_ref().unwrap().data, "{\"kind\":\"daily\"}");
    assert_eq!(host.fired_at("2026-03-01T03:00:00.000001Z").await, NONE);
    assert_eq!(host.fired_at("2026-03-02T03:00:01Z").await, ["daily 2026-03-02T03:00Z"]);
}

#[tokio::test]
async fn of_what_was_missed_only_the_latest_fires() {
    let mut host = Host::new("2026-03-01T02:00:00Z", &[("daily", "0 3 * * *", "UTC"), ("often", "* * * * *", "UTC")]);
    assert_eq!(host.fired_at("2026-03-01T02:00:30Z").await, NONE);
    // The clock jumps.
    let fired = host.fired_at("2026-03-05T12:00:30Z").await;
    assert_eq!(fired, ["daily 2026-03-05T03:00Z", "often 2026-03-05T12:00Z"]);
    // The host is stopped.
    let mut host = host.restart();
    let fired = host.fired_at("2026-03-07T02:30:00Z").await;
    assert_eq!(fired, ["daily 2026-03-06T03:00Z", "often 2026-03-07T02:30Z"]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_fires_nothing_twice() {
    let mut host = Host::new("2026-03-01T02:00:00Z", DAILY);
    assert_eq!(host.fired_at("2026-03-01T02:00:00Z").await, NONE);
    assert_eq!(host.fired_at("2026-03-02T03:00:00Z").await, ["daily 2026-03-02T03:00Z"]);
    assert_eq!(host.fired_at("2026-03-01T03:00:00Z").await, NONE);
    let mut host = host.restart();
    assert_eq!(host.fired_at("2026-03-02T03:00:05Z").await, NONE);
    assert_eq!(host.fired_at("2026-03-03T03:00:00Z").await, ["daily 2026-03-03T03:00Z"]);
}

#[tokio::test]
async fn a_new_schedule_begins_with_its_next_slot() {
    let mut host = Host::new("2026-03-01T12:00:00Z", DAILY);
    assert_eq!(host.fired_at("2026-03-01T12:00:01Z").await, NONE, "03:00 was before");
    // It was stopped before its first slot came.
    let mut host = host.restart();
    assert_eq!(host.fired_at("2026-03-02T04:00:00Z").await, ["daily 2026-03-02T03:00Z"]);
    // Another rule is a new schedule.
    host.reload(&[("daily", "0 2 * * *", "UTC")]);
    assert_eq!(host.fired_at("2026-03-02T04:00:01Z").await, NONE);
    assert_eq!(host.fired_at("2026-03-03T02:00:00Z").await, ["daily 2026-03-03T02:00Z"]);
    host.reload(&[]);
    assert_eq!(host.fired_at("2026-03-09T00:00:00Z").await, NONE);
    host.reload(DAILY);
    assert_eq!(host.fired_at("2026-03-09T04:00:00Z").await, NONE);
}

#[tokio::test]
async fn what_the_log_has_no_room_for_fires_later() {
    struct Full(Mutex<u32>, Arc<MemoryLog>);
    impl ScheduleLog for Full {
        fn plan(&self, schedules: Vec<(String, String)>, now: Timestamp) -> Pending<Vec<Timestamp>> {
            self.1.plan(schedules, now)
        }

        fn fire(&self, schedule: String, slot: Timestamp, event: Envelope) -> Pending<bool> {
            let mut left = self.0.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return Box::pin(std::future::ready(Err(Error::Full)));
            }
            self.1.fire(schedule, slot, event)
        }
    }
    let mut host = Host::new("2026-03-01T02:00:00Z", DAILY);
    host.schedules.options.log = Arc::new(Full(Mutex::new(3), host.log.clone()));
    assert_eq!(host.fired_at("2026-03-01T02:00:01Z").await, NONE);
    assert_eq!(host.fired_at("2026-03-01T03:00:00Z").await, NONE);
    assert_eq!(host.fired_at("2026-03-01T03:00:02Z").await, ["daily 2026-03-01T03:00Z"]);
}

#[tokio::test]
async fn it_sleeps_until_the_slot_and_stops_when_told() {
    let Host { clock, mut feed, schedules, manifest, .. } = Host::new("2026-03-01T02:59:58Z", DAILY);
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(schedules.run(stopped));
    // It sleeps; only then may time pass.
    while clock.monotonic.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    clock.pass(Duration::from_secs(2));
    let Some(Commit::Events(events)) = feed.recv().await else { panic!("nothing was appended") };
    assert_eq!(events[0].envelope.id, "2026-03-01T03:00:00.000Z");
    // A reload is noticed without another slot.
    manifest.send_replace(deployment(&[("often", "* * * * *", "UTC")]));
    let event = loop {
        clock.pass(Duration::from_secs(1));
        tokio::task::yield_now().await;
        if let Ok(Commit::Events(events)) = feed.try_recv() {
            break events[0].clone();
        }
    };
    assert_eq!(event.envelope.source, "/tidegate/schedules/often");
    stop.send_replace(true);
    running.await.unwrap();
}
