use tidegate_sdk::prelude::*;

#[consumer]
fn handle<T: Clone>(_event: Event<T>) -> Outcome {
    done()
}

fn main() {}
