wit_bindgen::generate!({ world: "consumer", path: "../../../wit", generate_all });
use exports::tidegate::consumer::handler::{Delivery, Failure, Guest, Payload};
struct Hostile;
impl Guest for Hostile {
    fn handle(_d: Delivery) -> Result<Option<Payload>, Failure> { println!("hello"); Ok(None) }
}
export!(Hostile);
