use tidegate_sdk::prelude::*;

struct Shop;

impl Shop {
    #[consumer]
    fn handle(&self, event: Event<Value>) -> Outcome {
        done()
    }
}

fn main() {}
