//! Every state that a run can reach × every input, for pipelines that are small but have all kinds of steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use super::super::{CallSpec, StepLimits, StepSpec, WaitSpec, Work};
use super::*;
use crate::model::ConsumerName;
use crate::model::{Expression, TypePattern};

const UNTIL: Timestamp = Timestamp(60_000_000);

fn call(name: &str, after: &[usize], compensate: bool, when: bool) -> StepSpec {
    let consumer = |text: &str| ConsumerName::new(text).unwrap();
    StepSpec {
        name: name.into(),
        after: after.to_vec(),
        when: when.then(|| Expression::parse("data.yes").unwrap()),
        work: Work::Call(CallSpec {
            consumer: consumer(name),
            compensate: compensate.then(|| consumer("undo")),
            retry: None,
            limits: StepLimits::default(),
        }),
    }
}

fn wait(name: &str, after: &[usize]) -> StepSpec {
    let id = || Expression::parse("data.id").unwrap();
    let work = WaitSpec {
        pattern: TypePattern::new("payment.settled").unwrap(),
        event: id(),
        run: id(),
        timeout: Duration::from_secs(60),
    };
    StepSpec { name: name.into(), after: after.to_vec(), when: None, work: Work::Wait(work) }
}

/// Two steps, then two side by side of which one is conditional and one waits, then a last one.
fn definition(on_failure: OnFailure) -> Definition {
    let steps = vec![
        call("reserve", &[], true, false),
        call("pay", &[0], true, false),
        call("ship", &[1], true, true),
        wait("settled", &[1]),
        call("thank", &[2, 3], false, false),
    ];
    Definition { pipeline: ConsumerName::new("fulfil").unwrap(), steps, timeout: None, on_failure }
}

/// Answers everything the same way.
#[derive(Clone, Copy, Debug)]
struct Answers {
    holds: Result<bool, ()>,
    awaits: Result<Option<Seq>, ()>,
}

impl Scene for Answers {
    fn holds(&mut self, _: usize) -> Result<bool, String> {
        self.holds.map_err(|()| "no such member".to_owned())
    }

    fn awaits(&mut self, _: usize) -> Result<Awaited, String> {
        let awaited = |event: Option<Seq>| event.map_or(Awaited::Until(UNTIL), Awaited::Here);
        self.awaits.map(awaited).map_err(|()| "no such member".to_owned())
    }
}

const PLAIN: Answers = Answers { holds: Ok(true), awaits: Ok(None) };

fn scenes() -> Vec<Answers> {
    vec![
        PLAIN,
        Answers { holds: Ok(false), ..PLAIN },
        Answers { holds: Err(()), ..PLAIN },
        Answers { awaits: Ok(Some(9)), ..PLAIN },
        Answers { awaits: Err(()), ..PLAIN },
    ]
}

fn inputs(definition: &Definition) -> Vec<Input> {
    let mut inputs = vec![Input::TimedOut, Input::Cancel { reason: "no longer wanted".into() }];
    for step in 0..definition.steps.len() {
        let reason = || "it broke".to_owned();
        inputs.extend([
            Input::Done { step },
            Input::Failed { step, reason: reason() },
            Input::Withdrawn { step },
            Input::Undone { step },
            Input::UndoFailed { step, reason: reason() },
            Input::Arrived { step, event: 9 },
            Input::Late { step },
            Input::Retry { step },
            Input::Resolve { step },
        ]);
    }
    inputs
}

/// Which inputs the world can give to a run that stands so; the others come too late, or are refused.
fn is_possible(run: &Run, input: &Input) -> bool {
    match input {
        Input::Begin => false,
        Input::Done { step } | Input::Failed { step, .. } => run.state(*step) == StepState::Running,
        // Only a run that gives up has withdrawn what it made.
        Input::Withdrawn { step } => run.state(*step) == StepState::Running && run.failing.is_some(),
        Input::Undone { step } | Input::UndoFailed { step, .. } => run.state(*step) == StepState::Undoing,
        Input::Arrived { step, .. } | Input::Late { step } => run.state(*step) == StepState::Waiting,
        Input::TimedOut | Input::Cancel { .. } | Input::Retry { .. } | Input::Resolve { .. } => true,
    }
}

/// A way to a state: its journal.
type Found = BTreeMap<String, (Run, Vec<Entry>)>;

fn word(run: &Run) -> String {
    format!("{run:?}")
}

fn explore(
    definition: &Definition,
    mut look: impl FnMut(&Run, &[Entry], &Input, &Result<Vec<Entry>, Refusal>),
) -> Found {
    let mut found = Found::new();
    let mut open = VecDeque::new();
    for mut scene in scenes() {
        let journal = Run::new(definition).step(definition, &Input::Begin, &mut scene).unwrap();
        open.push_back(journal);
    }
    while let Some(journal) = open.pop_front() {
        let run = Run::replayed(definition, &journal);
        if found.contains_key(&word(&run)) {
            continue;
        }
        found.insert(word(&run), (run.clone(), journal.clone()));
        for input in inputs(definition) {
            for mut scene in scenes() {
                let entries = run.step(definition, &input, &mut scene);
                look(&run, &journal, &input, &entries);
                let more = entries.unwrap_or_default();
                // Being taken up again and again leads to states that differ in nothing but the order of what was done.
                if !more.is_empty() && run.finished.len() <= definition.steps.len() {
                    open.push_back(journal.iter().cloned().chain(more).collect());
                }
            }
        }
    }
    found
}

const ALL: [OnFailure; 3] = [OnFailure::Compensate, OnFailure::Stop, OnFailure::Continue];

/// What a run of entries may never do, whatever came before.
fn check(definition: &Definition, run: &Run, journal: &[Entry], entries: &[Entry]) {
    let mut now = run.clone();
    let mut undone = BTreeSet::new();
    for entry in journal {
        if let Entry::Undone { step } = entry {
            undone.insert(*step);
        }
    }
    for entry in entries {
        let before = now.clone();
        now.apply(entry);
        match entry {
            Entry::StepBegan { step } | Entry::WaitBegan { step, .. } => {
                assert_eq!(before.state(*step), StepState::Pending, "{entry:?} of {before:?}");
                assert_eq!((before.status, before.failing), (Status::Running, None), "{entry:?} of {before:?}");
                for earlier in definition.before(*step) {
                    let state = before.state(earlier);
                    let over = matches!(state, StepState::Done | StepState::Skipped)
                        || (state == StepState::Failed && definition.on_failure == OnFailure::Continue);
                    assert!(over, "step {step} began before step {earlier} was over: {before:?}");
                }
            }
            Entry::UndoBegan { step } => {
                let call = definition.steps[*step].work.call();
                assert!(call.is_some_and(|call| call.compensate.is_some()), "{entry:?}");
                assert!(!undone.contains(step), "step {step} is undone twice");
                assert!(before.finished.contains(step), "step {step} was never done");
                let later = before.finished.iter().rev().take_while(|other| *other != step);
                for later in later {
                    let open = before.state(*later) == StepState::Done
                        && definition.steps[*later].work.call().is_some_and(|call| call.compensate.is_some());
                    assert!(!open, "step {step} is undone before step {later}, which was done after it");
                }
                assert!(!before.any(StepState::Running), "{entry:?} while a step is in hand");
            }
            Entry::Undone { step } => assert!(undone.insert(*step), "step {step} is undone twice"),
            Entry::Ended { .. } => {
                let busy = [StepState::Running, StepState::Waiting, StepState::Undoing];
                assert!(!busy.iter().any(|state| before.any(*state)), "ended with work in hand: {before:?}");
            }
            _ => {}
        }
    }
    // At rest, an open run has something in hand, or a person has to see to it.
    let busy = [StepState::Running, StepState::Waiting, StepState::Undoing];
    let rests = busy.iter().any(|state| now.any(*state)) || !now.status.is_open() || now.status == Status::Stuck;
    assert!(rests, "a run that nothing will move: {now:?}");
    if matches!(now.status, Status::Compensated | Status::Cancelled) {
        for (at, step) in definition.steps.iter().enumerate() {
            let undoable = step.work.call().is_some_and(|call| call.compensate.is_some());
            assert!(!(undoable && now.state(at) == StepState::Done), "{} was left done by {now:?}", step.name);
        }
    }
}

#[test]
fn every_reachable_state_times_every_input_keeps_the_rules_of_a_saga() {
    for on_failure in ALL {
        let definition = definition(on_failure);
        let mut edges = 0;
        let found = explore(&definition, |run, journal, input, entries| {
            edges += 1;
            match entries {
                Ok(entries) => {
                    assert!(is_possible(run, input) || entries.is_empty(), "{input:?} moved {run:?}");
                    check(&definition, run, journal, entries);
                    let mut all = journal.to_vec();
                    all.extend(entries.iter().cloned());
                    let mut folded = run.clone();
                    entries.iter().for_each(|entry| folded.apply(entry));
                    assert_eq!(Run::replayed(&definition, &all), folded, "the journal gives the same state");
                }
                Err(refusal) => {
                    let order = matches!(input, Input::Cancel { .. } | Input::Retry { .. } | Input::Resolve { .. });
                    assert!(order, "{refusal} of {input:?}: only a person's order is refused");
                }
            }
        });
        assert!(found.len() > 50 && edges > 10_000, "{} states, {edges} edges", found.len());
        let ends: BTreeSet<Status> = found.values().map(|(run, _)| run.status).collect();
        let expected: &[Status] = match on_failure {
            OnFailure::Compensate => &[Status::Completed, Status::Compensated, Status::Cancelled, Status::Stuck],
            OnFailure::Stop => &[Status::Completed, Status::Stopped, Status::Cancelled, Status::Stuck],
            OnFailure::Continue => &[Status::Completed, Status::Partial, Status::Cancelled, Status::Stuck],
        };
        for status in expected {
            assert!(ends.contains(status), "{on_failure:?}: no way to {status:?}");
        }
    }
}

/// From every state there is a way to an end, by what the world does alone; but for a stuck run, which a person ends.
#[test]
fn every_run_can_end() {
    for on_failure in ALL {
        let definition = definition(on_failure);
        let found = explore(&definition, |_, _, _, _| {});
        for (run, journal) in found.values() {
            let mut run = run.clone();
            for _ in 0..64 {
                let next = (0..definition.steps.len()).find_map(|step| match run.state(step) {
                    StepState::Running if run.failing.is_some() => Some(Input::Withdrawn { step }),
                    StepState::Running => Some(Input::Done { step }),
                    StepState::Waiting => Some(Input::Late { step }),
                    StepState::Undoing => Some(Input::Undone { step }),
                    StepState::UndoFailed => Some(Input::Resolve { step }),
                    _ => None,
                });
                let Some(input) = next.filter(|_| run.status.is_open()) else { break };
                let entries = run.step(&definition, &input, &mut PLAIN.clone()).unwrap();
                assert!(!entries.is_empty(), "{input:?} does not move {run:?}");
                entries.iter().for_each(|entry| run.apply(entry));
            }
            assert!(!run.status.is_open(), "{run:?} after {journal:?}");
        }
    }
}

/// The table of the smallest pipeline that has everything to lose: one step that can be undone, and one that cannot.
#[test]
fn the_table() {
    let mut table = String::new();
    for on_failure in ALL {
        let steps = vec![call("pay", &[], true, false), call("ship", &[0], false, false)];
        let pipeline = ConsumerName::new("fulfil").unwrap();
        let definition = Definition { pipeline, steps, timeout: None, on_failure };
        let mut rows: BTreeMap<String, String> = BTreeMap::new();
        explore(&definition, |run, _, input, entries| {
            let states: Vec<&str> = run.steps.iter().map(|state| state.as_str()).collect();
            let failing = run.failing.map_or(String::new(), |cause| format!(" ({cause:?})"));
            let state = format!("{}{failing}, {}", run.status.as_str(), states.join(" "));
            let next = match entries {
                Ok(entries) if entries.is_empty() => return,
                Ok(entries) => entries.iter().map(short).collect::<Vec<_>>().join("; "),
                // Of a run that is over there is nothing else to say.
                Err(Refusal::Over(_)) => return,
                Err(refusal) => format!("refused: {refusal}"),
            };
            rows.entry(format!("{state}  <-  {}", said(input))).or_insert(next);
        });
        let _ = writeln!(table, "on-failure: {on_failure:?}");
        for (row, next) in rows {
            let _ = writeln!(table, "  {row}\n      {next}");
        }
    }
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("run_table", table);
    });
}

fn short(entry: &Entry) -> String {
    match entry {
        Entry::StepBegan { step } => format!("begin {step}"),
        Entry::UndoBegan { step } => format!("undo {step}"),
        Entry::Done { step, .. } => format!("done {step}"),
        Entry::Failed { step, .. } => format!("failed {step}"),
        Entry::Withdrawn { step } => format!("withdrawn {step}"),
        Entry::Undone { step } => format!("undone {step}"),
        Entry::UndoFailed { step, .. } => format!("stuck at {step}"),
        Entry::Failing { cause, .. } => format!("failing ({cause:?})"),
        Entry::Ended { status } => status.as_str().to_owned(),
        Entry::Retried { step } => format!("retried {step}"),
        Entry::Resolved { step } => format!("resolved {step}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn said(input: &Input) -> String {
    match input {
        Input::Done { step } => format!("done {step}"),
        Input::Failed { step, .. } => format!("failed {step}"),
        Input::Withdrawn { step } => format!("withdrawn {step}"),
        Input::Undone { step } => format!("undone {step}"),
        Input::UndoFailed { step, .. } => format!("undo failed {step}"),
        Input::Retry { step } => format!("retry {step}"),
        Input::Resolve { step } => format!("resolve {step}"),
        Input::Cancel { .. } => "cancel".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[test]
fn run_ids_are_read_as_they_are_written() {
    let run: RunId = "17/fulfil-order".parse().unwrap();
    assert_eq!((run.seq, run.to_string()), (17, "17/fulfil-order".to_owned()));
    for wrong in ["", "17", "x/fulfil", "17/", "17/Fulfil Order"] {
        assert!(wrong.parse::<RunId>().is_err(), "{wrong}");
    }
}
