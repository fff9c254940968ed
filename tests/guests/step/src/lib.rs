//! A step of a pipeline and its compensator: each says what it was given, and fails if the event says so.
use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(default)]
struct Told {
    /// `done`, `retry` or `reject`.
    step: String,
    undo: String,
}

impl Default for Told {
    fn default() -> Self {
        Self { step: "done".into(), undo: "done".into() }
    }
}

/// The run, as JSON.
fn run(event: &Event<Told>) -> Value {
    let Some(run) = &event.run else { return Value::Null };
    let output = |name: &String| json!([name, run.output::<Value>(name)]);
    let outputs: Vec<_> = run.outputs.iter().map(|(name, _)| output(name)).collect();
    json!({ "id": run.id, "pipeline": run.pipeline, "step": run.step, "outputs": outputs })
}

fn told(word: &str) -> Outcome {
    match word {
        "retry" => retry("as told"),
        "reject" => reject("as told"),
        "spin" => loop {
            std::hint::black_box(());
        },
        "grow" => done_with(std::hint::black_box(vec![1_u8; 4 << 20]).len()),
        _ => done(),
    }
}

#[consumer]
fn step(event: Event<Told>) -> Outcome {
    told(&event.data.step).and_then(|_| done_with(run(&event)))
}

#[compensator]
fn undo(event: Event<Told>, output: Option<Value>) -> Outcome {
    publish("order.undone", json!({ "output": output, "run": run(&event) }))?;
    told(&event.data.undo)
}
