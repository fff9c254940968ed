use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
struct Order {
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Reservation {
    order: String,
}

/// Documented, attributed and private, as any function may be.
#[consumer]
#[inline]
fn reserve(order: Event<Order>) -> Outcome {
    done_with(Reservation { order: order.data.id })
}

#[compensator]
fn release(_order: Event<Order>, reservation: Option<Reservation>) -> Outcome {
    match reservation {
        Some(reservation) => done_with(reservation.order),
        None => done(),
    }
}

#[batch_consumer]
pub fn index(orders: Vec<Event<Value>>) -> Vec<Outcome> {
    orders.iter().map(|_| done()).collect()
}

#[responder]
fn check(question: Question<Order>) -> Answer {
    answer(json!({ "id": question.data.id }))
}

// The functions can be called like any other.
fn main() {
    let _ = (reserve, release, index, check);
}
