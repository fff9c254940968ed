use super::output::tests::{Captured, captured};
use super::*;

/// A context whose output is kept: (context, standard output, standard error).
pub(super) fn context(vars: &[(&str, &str)]) -> (Context, Captured, Captured) {
    let (out, stdout, stderr) = captured(false);
    let context = Context {
        out,
        clock: Arc::new(SystemClock::new()),
        vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        input: Box::new(std::io::empty()),
        interactive: false,
    };
    (context, stdout, stderr)
}

#[test]
fn the_command_line_is_well_formed() {
    command().debug_assert();
}
