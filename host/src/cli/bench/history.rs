//! What a long history costs: the same load on a log with many events in it and on a short one.

use super::super::error::Error;
use super::super::text;
use super::load::Target;
use super::subject::Subject;
use super::{AS_LONG_AS_IT_TAKES, Bench, Deployed, per};

/// Events in the short log.
const FEW: u64 = 10_000;
/// Events that are sent before anybody looks again whether all is well.
const AT_ONCE: u64 = 500_000;
/// Each log is measured so often, one after the other, because a machine is not the same from minute to minute.
const ROUNDS: usize = 3;

impl Bench<'_> {
    /// Each measure begins with a host that has just started and with as many events that nobody measures, so that what differs is what
    /// the log holds.
    pub(super) async fn history(&mut self) -> Result<(), Error> {
        let many = u64::from(self.args.history);
        let long = self.next_database();
        let (subject, target) = self.start_on(&long)?;
        self.fill(&target, many).await?;
        self.stop(subject, &target).await?;
        let (mut of_long, mut of_short) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            self.progress(&format!("a log of {} and a short one, {round} of {ROUNDS}", events(many)));
            let short = self.next_database();
            let (subject, target) = self.start_on(&short)?;
            of_short.push(self.settled_a_second(subject, target).await?);
            let (subject, target) = self.start_on(&long)?;
            of_long.push(self.settled_a_second(subject, target).await?);
        }
        let (long, short) = (middle(&mut of_long), middle(&mut of_short));
        self.figures.per_second("history.short", short);
        self.figures.per_second("history.long", long);
        self.figures.ratio("history.ratio", long / short.max(f64::MIN_POSITIVE));
        Ok(())
    }

    async fn settled_a_second(&mut self, subject: Subject, target: Target) -> Result<f64, Error> {
        self.fill(&target, FEW).await?;
        let began = self.context.clock.monotonic();
        let taken = target.streamed(self.args.time, u64::MAX).await?;
        target.settled().await?;
        let in_time = self.since(began);
        self.stop(subject, &target).await?;
        Ok(per(taken.events) / in_time.as_secs_f64())
    }

    /// Brings so many events into the log, and sees them settled.
    async fn fill(&mut self, target: &Target, many: u64) -> Result<(), Error> {
        let mut there = 0;
        while there < many {
            if many > AT_ONCE {
                self.progress(&format!("{} of {}", text::number(there), events(many)));
            }
            there += target.streamed(AS_LONG_AS_IT_TAKES, AT_ONCE.min(many - there)).await?.events;
            target.settled().await?;
        }
        Ok(())
    }

    fn next_database(&mut self) -> Deployed {
        self.databases += 1;
        Deployed { database: self.databases, ..self.deployed() }
    }
}

fn events(many: u64) -> String {
    format!("{} events", text::number(many))
}

fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
