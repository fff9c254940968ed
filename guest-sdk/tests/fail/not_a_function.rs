use tidegate_sdk::prelude::*;

#[consumer]
struct Handler;

fn main() {}
