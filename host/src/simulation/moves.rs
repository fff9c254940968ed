//! The steps of a schedule: which can be taken, and what each does.

use std::time::Duration;

use bytes::Bytes;

use super::guests::Begun;
use super::model::{Checked, hold};
use super::plan::{EPHEMERAL, TYPES};
use super::steps::Step;
use super::world::World;
use crate::clock::Clock as _;
use crate::dispatch::scripted;
use crate::log::{DeadDecision, DeadSelection, EventLog as _};
use crate::model::flow::Rate;
use crate::model::outcome::StateWrite;
use crate::model::replay::{ReplaySpec, ReplayStatus};
use crate::model::{Envelope, Outcome, Payload, Report, StateChanges, Timestamp, TypePattern, Usage};

/// Rounds without a settlement after which nothing will come any more: a breaker opens and retries wait for less.
const VAIN_MAX: u32 = 300;
const ROUNDS_MAX: u32 = 10_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

impl World {
    /// The next step: one of those that can be taken, as the mood has it.
    pub(super) fn choose(&self, before: Step) -> Step {
        let possible = Step::ALL.iter().copied().filter(|step| self.can(*step));
        let weighted: Vec<(u32, Step)> = possible.map(|step| (self.mood.weight(step, before), step)).collect();
        self.dice.weighted(&weighted)
    }

    fn can(&self, step: Step) -> bool {
        let anyway = matches!(step, Step::Wait | Step::WaitLong | Step::WallBack | Step::WallForward);
        let Some(host) = &self.host else { return anyway || step == Step::Start };
        if host.disk.has_failed() {
            // The host stops itself; whatever happens until then.
            return matches!(step, Step::Crash | Step::PowerLoss | Step::GuestEnds | Step::Wait)
                && (step != Step::GuestEnds || !host.guests.running().is_empty());
        }
        let stopping = host.draining.is_some();
        match step {
            Step::Start => false,
            Step::Ingest => !stopping,
            Step::Repeat | Step::Contradict => !stopping && !self.sent.is_empty(),
            Step::GuestEnds | Step::GuestSpins => !host.guests.running().is_empty(),
            Step::Commit => !self.stalled && host.disk.has_writes(),
            Step::Begin | Step::FsyncFails => host.disk.has_writes(),
            Step::Tell => host.disk.has_untold(),
            Step::Answer | Step::FailRead => host.disk.questions() > 0,
            Step::Reload | Step::ReloadKeys | Step::Stop => !stopping && host.activating.is_none(),
            Step::Hurry => stopping,
            Step::DiskFull => !self.full,
            Step::DiskFree => self.full,
            Step::Stall => !self.stalled,
            Step::Unstall => self.stalled,
            Step::Redrive | Step::Discard => !self.model.dead.is_empty(),
            Step::Replay => self.model.head() > 0,
            Step::CancelReplay => host.disk.log().replays().iter().any(|replay| !replay.is_over()),
            Step::Echo => host.disk.can_echo(),
            Step::Pause => self.plan.specs().next().is_some(),
            Step::CancelRun => self.model.open_runs().next().is_some(),
            Step::TakeUp | Step::Resolve => self.model.any_run_stands_still(),
            Step::Resume => !self.model.paused.is_empty(),
            Step::Release => !self.model.held.is_empty(),
            _ => true,
        }
    }

    pub(super) fn take(&mut self, step: Step) -> Checked {
        match step {
            Step::Ingest | Step::Repeat | Step::Contradict => self.ingest(step),
            Step::GuestEnds => self.guest_ends(),
            Step::GuestSpins => self.guest_spins(),
            Step::Commit => {
                self.commit()?;
                if self.dice.percent(75) { self.tell(usize::MAX) } else { Ok(()) }
            }
            Step::Tell => self.tell(self.dice.within(1..=8) as usize),
            Step::Wait => self.pass(Duration::from_millis(u64::from(self.dice.within(1..=3_000)))),
            Step::WaitDue => self.wait_due(),
            Step::WaitLong => self.pass(HOUR * self.dice.within(1..=48)),
            Step::WallBack | Step::WallForward => self.set_wall(step),
            Step::Crash => self.crash(self.dice.percent(50)),
            // What was written and not synced may be there or not; what was not even written is not.
            Step::PowerLoss => self.crash(self.dice.percent(20)),
            Step::Start => self.start(),
            Step::Reload => {
                // Now and then the same manifest again.
                self.plan = if self.dice.percent(90) { self.plan.changed(&self.dice) } else { self.plan.clone() };
                self.deploy();
                self.go_on()
            }
            Step::ReloadKeys => {
                self.plan = self.plan.rekeyed(&self.dice);
                self.deploy();
                self.go_on()
            }
            Step::CancelRun | Step::TakeUp | Step::Resolve => self.order(step),
            Step::AskSettled => {
                self.ask_settled();
                self.go_on()
            }
            Step::Stop => self.drain(),
            Step::Hurry => self.hurry(),
            Step::DiskFull | Step::DiskFree => {
                self.full = step == Step::DiskFull;
                self.ballast = self.dice.percent(50);
                Ok(())
            }
            Step::Stall | Step::Unstall => {
                self.stalled = step == Step::Stall;
                Ok(())
            }
            _ => self.meddle(step),
        }?;
        self.end_of_stop()
    }

    /// Steps that need a host.
    fn meddle(&mut self, step: Step) -> Checked {
        let Some(host) = &self.host else { return Ok(()) };
        match step {
            Step::Begin => host.disk.begin(),
            Step::Answer => host.disk.answer(self.dice.below(64), true),
            Step::FailRead => host.disk.answer(self.dice.below(64), false),
            Step::FsyncFails => {
                host.disk.begin();
                host.disk.fail(self.dice.percent(50));
                self.look()?;
                self.model.failed = true;
                return self.go_on();
            }
            Step::Redrive | Step::Discard => {
                let dead: Vec<_> = self.model.dead.iter().collect();
                let id = (*self.dice.one(&dead)).clone();
                let ids = if self.dice.percent(80) { vec![id] } else { vec![] };
                let decision = if step == Step::Redrive { DeadDecision::Redrive } else { DeadDecision::Discard };
                drop(host.disk.decide_dead(DeadSelection { ids, ..DeadSelection::default() }, decision));
            }
            Step::Pause => {
                let names: Vec<_> = self.plan.specs().map(|spec| spec.name.clone()).collect();
                drop(host.disk.pause(self.dice.one(&names).clone(), true));
            }
            Step::Resume => {
                let names: Vec<_> = self.model.paused.iter().collect();
                drop(host.disk.pause((*self.dice.one(&names)).clone(), false));
            }
            Step::Release => {
                let held: Vec<_> = self.model.held.keys().collect();
                let (name, key) = (*self.dice.one(&held)).clone();
                let keys = if self.dice.percent(70) { vec![key] } else { Vec::new() };
                drop(host.disk.release(name, keys));
            }
            Step::Replay => drop(host.disk.start_replay(self.replay())),
            Step::CancelReplay => {
                let running = host.disk.log().replays();
                let running: Vec<u64> =
                    running.iter().filter(|replay| !replay.is_over()).map(|replay| replay.id).collect();
                drop(host.disk.cancel_replay(self.dice.pick(&running)));
            }
            Step::Prune => {
                let age = self.dice.pick(&[MINUTE, HOUR, TEN_YEARS]);
                let micros = i64::try_from(age.as_micros()).unwrap();
                host.disk.prune(Timestamp(self.clock.now().0 - micros));
            }
            Step::Echo => host.disk.echo(self.dice.below(64)),
            _ => {}
        }
        self.go_on()
    }

    fn ingest(&mut self, step: Step) -> Checked {
        let events = match step {
            Step::Ingest => {
                let count = if self.dice.percent(15) { self.dice.within(2..=8) } else { 1 };
                (0..count).map(|_| self.event()).collect()
            }
            _ => {
                let mut events = vec![self.dice.one(&self.sent).clone()];
                if step == Step::Contradict {
                    events[0].subject = Some(format!("not {:?}", events[0].subject));
                }
                if self.dice.percent(30) {
                    events.insert(self.dice.below(2), self.event());
                }
                events
            }
        };
        if step != Step::Contradict {
            self.sent.extend(events.iter().cloned());
        }
        self.say(|_| format!("    sends {}", events.iter().map(|e| e.id.as_str()).collect::<Vec<_>>().join(" ")));
        self.send(events);
        self.go_on()
    }

    fn event(&mut self) -> Envelope {
        self.ids += 1;
        let id = self.ids;
        let mut envelope = scripted::envelope(&format!("e{id}"), self.dice.pick(&TYPES));
        if self.dice.percent(10) {
            let later = Duration::from_secs(u64::from(self.dice.within(0..=120)));
            envelope.not_before = Some(self.clock.now().plus(later));
        }
        let poison = self.dice.percent(8);
        // A few lack what the manifest wants to know.
        let text =
            |lacks: u32, text: String| if self.dice.percent(lacks) { "null".into() } else { format!("{text:?}") };
        if self.dice.percent(6) {
            envelope.job = self.job();
        }
        let key = |_| text(4, self.dice.pick(&["a", "b", "c"]).to_owned());
        let mark = |_| text(2, format!("m{}", self.dice.within(1..=30)));
        let ([k, g], [m, n]) = ([0, 1].map(key), [0, 1].map(mark));
        let data = format!(r#"{{"k":{k},"g":{g},"m":{m},"n":{n},"id":{id},"poison":{poison}}}"#);
        envelope.payload = Some(Payload { content_type: "application/json".into(), data: Bytes::from(data) });
        envelope
    }

    /// Of a few events.
    fn replay(&self) -> ReplaySpec {
        let head = u32::try_from(self.model.head()).unwrap();
        let from = self.dice.within(1..=head);
        let some = |chance| self.dice.percent(chance);
        let rate = Rate { count: self.dice.within(1..=5), per: Duration::from_secs(1) };
        let named = self.plan.consumers.keys().next().cloned();
        ReplaySpec {
            from: from.into(),
            to: self.dice.within(from..=head.min(from + 15)).into(),
            event_type: some(30).then(|| TypePattern::new("order.*").unwrap()),
            consumer: named.filter(|name| name.as_str() != EPHEMERAL && some(30)),
            rate: some(30).then_some(rate),
            ..ReplaySpec::default()
        }
    }

    fn guest_ends(&mut self) -> Checked {
        let Some(host) = &self.host else { return Ok(()) };
        let token = *self.dice.one(&host.guests.running());
        let Some(begun) = host.guests.begun(token) else { return Ok(()) };
        let reports = self.reports(&begun);
        self.end_guest(&begun, reports)?;
        self.go_on()
    }

    fn end_guest(&mut self, begun: &Begun, reports: Result<Vec<Report>, Report>) -> Checked {
        self.say(|_| {
            let word = |report: &Report| format!("{:?}", report.outcome);
            let words = match &reports {
                Ok(reports) => reports.iter().map(word).collect::<Vec<_>>().join(" "),
                Err(report) => format!("as a whole {}", word(report)),
            };
            format!("    call {} is {words}", begun.token)
        });
        let Some(host) = &self.host else { return Ok(()) };
        self.model.ended(begun, &reports);
        host.guests.end(begun.token, reports);
        Ok(())
    }

    fn guest_spins(&mut self) -> Checked {
        if let Some(host) = &self.host {
            host.guests.spin(*self.dice.one(&host.guests.running()));
        }
        Ok(())
    }

    #[expect(clippy::result_large_err, reason = "as the port says it")]
    /// What a call comes to, for each of its deliveries.
    fn reports(&self, begun: &Begun) -> Result<Vec<Report>, Report> {
        let poison = |at: usize| is_poison(&begun.calls[at].event.envelope);
        if !begun.batch {
            return Ok(vec![self.report(begun, poison(0), true)]);
        }
        // A poisonous item takes the whole call down, or only fails.
        if (0..begun.calls.len()).any(poison) && self.dice.percent(70) {
            return Err(self.report(begun, true, false));
        }
        let mut effects = true;
        let each = (0..begun.calls.len()).map(|at| {
            let report = self.report(begun, poison(at), effects);
            // The first that is done carries what the call published and wrote.
            effects &= report.outcome != Outcome::Done;
            report
        });
        Ok(each.collect())
    }

    fn report(&self, begun: &Begun, poison: bool, effects: bool) -> Report {
        let took = self.clock.monotonic().saturating_sub(begun.at);
        let outcome = if poison {
            Outcome::Trapped
        } else if self.faultless {
            Outcome::Done
        } else {
            self.dice.weighted(&[
                (55, Outcome::Done),
                (12, Outcome::Retry),
                (5, Outcome::Defer),
                (4, Outcome::Reject),
                (6, Outcome::Trapped),
                (2, Outcome::OutOfFuel),
                (2, Outcome::OutOfMemory),
                (2, Outcome::OverLimit),
                (2, Outcome::Refused),
            ])
        };
        let mut report = Report::bare(outcome, None, begun.started_at);
        report.usage = Usage { duration: took, ..Usage::default() };
        if matches!(outcome, Outcome::Retry | Outcome::Defer) && self.dice.percent(50) {
            report.after = Some(Duration::from_millis(u64::from(self.dice.within(0..=10_000))));
        }
        if outcome == Outcome::Done && self.dice.percent(70) {
            report.output = Some(self.output(begun.token));
        }
        // A guest that fails has asked for effects as well: nobody must see them.
        if effects && self.dice.percent(50) {
            report.state = self.writes(begun);
        }
        if effects && !self.faultless && self.dice.percent(15) {
            report.published = self.published(begun);
        }
        report
    }

    fn writes(&self, begun: &Begun) -> StateChanges {
        let mut changes = StateChanges::default();
        for (key, (number, version)) in &begun.state {
            if self.dice.percent(60) {
                changes.reads.insert((*key).into(), *version);
                // Now and then more than the quota allows.
                let filling = if self.dice.percent(2) { " ".repeat(100) } else { String::new() };
                let value = Bytes::from(format!("{}{filling}", number + 1));
                changes.writes.insert((*key).into(), StateWrite::Set { value, expires_at: None });
            }
        }
        changes
    }

    fn published(&self, begun: &Begun) -> Vec<Envelope> {
        let call = &begun.calls[0];
        let cause = &call.event.envelope;
        if cause.depth >= begun.spec.limits.chain_depth {
            return Vec::new();
        }
        let id = begun.ids().next().unwrap();
        let one = |n: u32| {
            let mut envelope = scripted::envelope(&format!("{id}#{n}"), self.dice.pick(&TYPES));
            envelope.source = format!("/consumers/{}", begun.spec.name);
            envelope.causation_id = Some(cause.id.clone());
            envelope.depth = cause.depth + 1;
            envelope
        };
        (0..self.dice.within(1..=2)).map(one).collect()
    }

    pub(super) fn pass(&mut self, by: Duration) -> Checked {
        self.advance(by)?;
        self.time_out()
    }

    /// Guests whose time is up are stopped by the sandbox.
    fn time_out(&mut self) -> Checked {
        let over = self.host.as_ref().map(|host| host.guests.over_time()).unwrap_or_default();
        if over.is_empty() {
            return Ok(());
        }
        for token in over {
            let Some(begun) = self.host.as_ref().and_then(|host| host.guests.begun(token)) else { continue };
            let mut report = Report::bare(Outcome::TimedOut, None, begun.started_at);
            report.usage.duration = begun.timeout();
            self.end_guest(&begun, if begun.batch { Err(report) } else { Ok(vec![report]) })?;
        }
        self.go_on()
    }

    fn wait_due(&mut self) -> Checked {
        let now = self.clock.now();
        let due = self.model.unfinished().map(|(_, known)| known.due).chain(self.model.next_timer());
        let due = due.filter(|due| *due > now).min();
        let wait = due.map_or(Duration::from_secs(1), |due| due.since(now));
        self.pass(wait.min(TEN_YEARS * 2))
    }

    fn set_wall(&mut self, step: Step) -> Checked {
        let by = *self.dice.one(&[HOUR, TEN_YEARS]);
        let micros = i64::try_from(by.as_micros()).unwrap();
        let now = self.clock.now();
        let wall = if step == Step::WallBack { Timestamp(now.0 - micros) } else { now.plus(by) };
        self.clock.set(wall);
        self.go_on()
    }

    /// When nothing is in hand any more, a stop comes to its end.
    fn end_of_stop(&mut self) -> Checked {
        if self.is_drained() && !self.full && !self.stalled {
            self.close()?;
        }
        Ok(())
    }

    /// No more trouble, and only time: every delivery must reach its end.
    pub(super) fn come_to_rest(&mut self) -> Checked {
        (self.full, self.stalled, self.faultless) = (false, false, true);
        self.until_idle()?;
        if self.host.as_ref().is_some_and(|host| host.disk.has_failed()) {
            self.crash(true)?;
        }
        if self.host.as_ref().is_some_and(|host| host.draining.is_some()) {
            self.end_stop_now()?;
        }
        // What was on its way when the disk was full may have kept it from starting.
        while self.host.is_none() {
            self.start()?;
            self.until_idle()?;
        }
        // Consumers that are gone keep their work: it goes on when they are back.
        self.plan = self.plan.with(&self.model.everybody(), &self.model.every_pipeline());
        self.deploy();
        self.settle_down()?;

        let head = self.model.head();
        let mut settled = self.believes_settled(head)?;
        for _ in 0..5 {
            if !settled {
                self.pass(Duration::from_secs(1))?;
                self.until_idle()?;
                settled = self.believes_settled(head)?;
            }
        }
        hold!(settled, "I21: everything is over, and the dispatcher has more to do: {}", self.standings());
        self.drain()?;
        self.end_stop_now()?;
        self.start()?;
        self.settle_down()?;
        let replays = self.host.as_ref().map(|host| host.disk.log().replays()).unwrap_or_default();
        self.model.replays_are_over(&replays, |name| self.plan.is_deployed(name))
    }

    fn end_stop_now(&mut self) -> Checked {
        self.hurry()?;
        for _ in 0..20 {
            self.commit()?;
            self.tell(usize::MAX)?;
            if self.is_drained() {
                return self.close();
            }
        }
        hold!(false, "I24: the stop does not end");
        Ok(())
    }

    /// Until the host has taken in what it was given.
    fn until_idle(&mut self) -> Checked {
        while self.host.as_ref().is_some_and(|host| host.disk.has_writes() || host.disk.has_untold()) {
            self.commit()?;
            self.tell(usize::MAX)?;
        }
        Ok(())
    }

    /// Until nothing that can be done is left to do.
    fn settle_down(&mut self) -> Checked {
        let mut idle = Duration::from_secs(1);
        let (mut settled, mut in_vain) = (self.model.settled_so_far(), 0);
        // Dead letters and breakers cause events, which cause deliveries: but not for ever.
        for _ in 0..ROUNDS_MAX {
            if in_vain >= VAIN_MAX {
                break;
            }
            let now = self.model.settled_so_far();
            in_vain = if now > settled { 0 } else { in_vain + 1 };
            settled = now;
            if self.host.as_ref().is_some_and(|host| host.disk.has_writes()) {
                self.commit()?;
            }
            let untold = self.host.as_ref().is_some_and(|host| host.disk.has_untold());
            self.tell_without_going_on(usize::MAX);
            let Some(host) = &self.host else { return Ok(()) };
            let running = host.guests.running();
            for token in &running {
                let Some(begun) = self.host.as_ref().and_then(|host| host.guests.begun(*token)) else { continue };
                let reports = self.reports(&begun);
                self.end_guest(&begun, reports)?;
            }
            if untold || !running.is_empty() {
                self.go_on()?;
            }
            let Some(host) = &self.host else { return Ok(()) };
            let busy = untold
                || !running.is_empty()
                || host.disk.has_writes()
                || host.disk.has_untold()
                || host.activating.is_some();
            if !busy {
                if !self.has_work() {
                    return Ok(());
                }
                self.let_go();
                self.wait_due()?;
                // A breaker is patient.
                if self.host.as_ref().is_some_and(|host| host.guests.running().is_empty()) {
                    self.pass(idle)?;
                    idle = (idle * 2).min(MINUTE);
                }
            } else {
                idle = Duration::from_secs(1);
            }
        }
        let left = self.model.unfinished().map(|(id, known)| format!("{id} {known:?}"));
        let left: Vec<String> = left.chain(self.model.open_runs().map(|run| format!("run {run}"))).take(5).collect();
        hold!(false, "I21: no end is in sight for {}; {}", left.join(", "), self.standings());
        Ok(())
    }

    /// What waits for a person gets one.
    fn let_go(&self) {
        let Some(host) = &self.host else { return };
        for name in &self.model.paused {
            drop(host.disk.pause(name.clone(), false));
        }
        for (name, key) in self.model.held.keys() {
            drop(host.disk.release(name.clone(), vec![key.clone()]));
        }
    }

    /// Whether consumers that are deployed have work left.
    fn has_work(&self) -> bool {
        let replays = self.host.as_ref().map(|host| host.disk.log().replays()).unwrap_or_default();
        replays.iter().any(|replay| replay.status == ReplayStatus::Running)
            || self.model.open_runs().next().is_some()
            || self.model.unfinished().any(|(id, _)| self.plan.is_deployed(&id.consumer))
    }
}

fn is_poison(envelope: &Envelope) -> bool {
    let data = envelope.payload.as_ref().map_or(&b""[..], |payload| &payload.data);
    data.ends_with(b"\"poison\":true}")
}
