use tidegate_sdk::prelude::*;

#[consumer(anything)]
async fn handle<T>() {}

fn main() {}
