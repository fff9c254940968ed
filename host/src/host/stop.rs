//! Stopping in two phases: stop claiming and let attempts finish; then end them and give them back, uncharged.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Error, Running};
use crate::registry::reload::NotReloaded;

/// What the end of attempts may take once they are told to end: they end at once, but for what the log cannot take.
const GIVE_BACK_MAX: Duration = Duration::from_secs(5);

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

enum Asked {
    Stop,
    Reload,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop) {}
    }
}

impl Running {
    pub(super) async fn until_stopped(mut self, signals: &mut Signals) -> Result<(), Error> {
        let mut failed = self.log.failed();
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => break,
                    Asked::Reload => self.reload_on_signal(),
                },
                Ok(why) = failed.wait_for(Option::is_some) => {
                    let why = why.clone().unwrap_or_default();
                    self.end_loops();
                    return Err(Error::LogFailed(why));
                }
            }
        }
        let impatient = tokio::select! {
            () = self.wind_down() => false,
            () = signals.stop() => true,
        };
        self.end_loops();
        if impatient { Err(Error::Impatient) } else { Ok(()) }
    }

    fn reload_on_signal(&mut self) {
        let reload = self.reload.clone();
        self.tasks.spawn(async move {
            // What became of it is told by the witness; only what the witness cannot know is told here.
            if let Err(NotReloaded::Failed(why)) = reload.reload().await {
                tracing::error!("failed to reload: {why}");
            }
        });
    }

    async fn wind_down(&mut self) {
        // From here on `/readyz` says no and events are refused; who wants to look may still look.
        self.control.stop();
        tracing::info!("stopping: no new work is taken; attempts in hand have {} s", self.grace.as_secs_f64());
        let grace = self.clock.sleep_until(self.clock.monotonic() + self.grace);
        tokio::select! {
            () = self.dispatch.drain() => {}
            () = grace => {
                tracing::info!("the grace period is over: what is in hand is given back, no attempt is charged");
                self.cancel.send_replace(true);
                let given_back = self.clock.sleep_until(self.clock.monotonic() + GIVE_BACK_MAX);
                tokio::select! {
                    () = self.dispatch.drain() => {}
                    // As on a full disk. For the log these attempts never were.
                    () = given_back => tracing::warn!(
                        "outcomes of attempts cannot be written, see above; these are made again after the next start"
                    ),
                }
            }
        }
        self.closing.send_replace(true);
        tracing::info!("stopped");
    }

    fn end_loops(&mut self) {
        self.closing.send_replace(true);
        self.cancel.send_replace(true);
        self.stop.send_replace(true);
        self.tasks.abort_all();
    }
}
