use tidegate_sdk::prelude::*;

#[consumer]
fn handle<T: Clone>(event: Event<T>) -> Outcome {
    done()
}

fn main() {}
