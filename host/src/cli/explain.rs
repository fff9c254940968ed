use super::Context;
use super::error::Error;
use super::text;
use crate::manifest;

/// Explain the code of a diagnostic; without one, list them all.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// As diagnostics show it in brackets, such as TG101.
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let Some(code) = &args.code else {
        return manifest::codes()
            .iter()
            .try_for_each(|code| context.out.line(format!("{code}  {}", manifest::title(code).unwrap_or_default())));
    };
    let Some(page) = manifest::explain(code) else { return Err(unknown(code)) };
    let title = manifest::title(code).unwrap_or_default();
    context.out.line(format!("{}: {title}\n\n{page}", code.to_uppercase()))
}

fn unknown(code: &str) -> Error {
    let error = Error::usage(format!("there is no code '{code}'"));
    let upper = code.to_uppercase();
    match text::nearest(&upper, manifest::codes().iter().copied()) {
        Some(near) => {
            let title = manifest::title(near).map(|title| format!(" ({title})")).unwrap_or_default();
            error.hint(format!("Did you mean {near}{title}?")).hint("List them all with `tidegate explain`.")
        }
        None => error.hint("List them all with `tidegate explain`."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::context;
    use super::*;

    #[test]
    fn a_mistyped_code_is_guessed() {
        let error = unknown("tg10");
        assert_eq!(error.kind.exit_code(), 2);
        assert!(error.hints[0].starts_with("Did you mean TG10"), "{:?}", error.hints);
        assert_eq!(unknown("something else").hints, ["List them all with `tidegate explain`."]);
    }

    #[test]
    fn all_codes_are_listed() {
        let (mut context, out, _) = context(&[]);
        run(&Args { code: None }, &mut context).unwrap();
        assert_eq!(out.text().lines().count(), manifest::codes().len());
    }
}
