use tidegate_sdk::prelude::*;

struct Shop;

impl Shop {
    #[consumer]
    fn handle(&self, _event: Event<Value>) -> Outcome {
        done()
    }
}

fn main() {}
