//! Types local to a function are seen, too.
fn main() {
    use tidegate_sdk::prelude::*;

    #[derive(Deserialize)]
    struct Local(u32);

    #[consumer]
    fn handle(event: tidegate_sdk::Event<Local>) -> tidegate_sdk::Outcome {
        let Local(_) = event.data;
        done()
    }

    mod raw {
        use tidegate_sdk::prelude::*;

        #[consumer]
        fn bytes(event: RawEvent) -> Outcome {
            done_with(event.data.bytes.len())
        }
    }
}
