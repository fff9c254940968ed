use std::path::PathBuf;

use clap::Subcommand;

use super::error::{Error, Kind};
use super::{Context, new};
use crate::model::ConsumerName;
use crate::model::route::check_type;

/// Begin something new: a consumer.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Consumer(Consumer),
}

/// Begin a consumer: a crate that builds and passes its test.
#[derive(clap::Args, Debug)]
struct Consumer {
    /// Its name: a-z, 0-9, `-` and `_`.
    #[arg(value_name = "NAME", value_parser = ConsumerName::new)]
    name: ConsumerName,
    /// Type of the events that it handles.
    #[arg(long = "type", value_name = "TYPE", default_value = "order.created", value_parser = exact)]
    event_type: String,
    /// Folder for the crate, which must not exist yet; NAME in the current one unless given.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Take the SDK from this folder instead of the copy that this program brings along.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

fn exact(text: &str) -> Result<String, String> {
    check_type(text).map(|()| text.to_owned())
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let What::Consumer(consumer) = &args.what;
    let folder = consumer.path.clone().unwrap_or_else(|| PathBuf::from(consumer.name.as_str()));
    let files = new::consumer(&folder, &consumer.name, &consumer.event_type, consumer.sdk.as_deref()).map_err(|e| {
        let kind = if e.kind() == std::io::ErrorKind::AlreadyExists { Kind::State } else { Kind::Environment };
        Error::new(kind, format!("cannot begin a consumer in {}", folder.display()))
            .because(e)
            .hint("Choose a folder that does not exist yet with `--path`, where this user may write.")
    })?;
    for file in files {
        context.out.line(file.display().to_string())?;
    }
    let library = new::library(&consumer.name);
    context.out.tip("Next:");
    context.out.tip(format!("  cd {} && cargo test", folder.display()));
    context.out.tip("  cargo build --release --target wasm32-wasip2");
    context.out.tip(format!(
        "  name target/wasm32-wasip2/release/{library}.wasm in the manifest, or drop it into consumers/{}/",
        consumer.event_type
    ));
    Ok(())
}
