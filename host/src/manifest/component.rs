//! Diagnostics about components: found when they are loaded, told at the place in the manifest that names them.

use std::path::Path;

use super::diagnostic::Diagnostic;
use super::yaml::quoted;
use super::{Demand, Role, Spans, codes};
use crate::model::{ConsumerName, Digest, Timestamp};

/// Says what is wrong with one consumer's component.
pub struct Subject<'a> {
    pub spans: &'a Spans,
    pub consumer: &'a ConsumerName,
    /// The component's file.
    pub path: &'a Path,
}

impl Subject<'_> {
    /// At the value of `component`; of a consumer that only the drop folder knows, at the value of `folder`.
    fn at_component(&self, code: &'static str, message: String) -> Diagnostic {
        let problem = Diagnostic::error(code, message);
        match self.spans.consumers.get(self.consumer) {
            Some(places) => problem.at(&self.spans.source, places.component.clone(), ""),
            None => problem.in_file(self.path),
        }
    }

    /// At the key `grants`, and the component as well.
    fn at_grants(&self, code: &'static str, message: String) -> Diagnostic {
        let places = self.spans.consumers.get(self.consumer);
        match places.and_then(|places| Some((places, places.grants.clone()?))) {
            Some((places, grants)) => Diagnostic::error(code, message)
                .at(&self.spans.source, grants, "not granted here")
                .at(&self.spans.source, places.component.clone(), "imported by this component"),
            None => self.at_component(code, message),
        }
    }

    /// At the key `batch`, and the component as well.
    fn at_batch(&self, message: String, remark: &str) -> Diagnostic {
        let places = self.spans.consumers.get(self.consumer);
        match places.and_then(|places| Some((places, places.batch.clone()?))) {
            Some((places, batch)) => Diagnostic::error(codes::BATCH_MISMATCH, message)
                .at(&self.spans.source, batch, "batches are asked for here")
                .at(&self.spans.source, places.component.clone(), remark),
            None => self.at_component(codes::BATCH_MISMATCH, message),
        }
    }

    fn file(&self) -> String {
        quoted(&self.path.to_string_lossy())
    }

    pub fn missing(&self) -> Diagnostic {
        let message = format!("the component of `{}` is not there", self.consumer);
        let help = format!("it was looked for at {}; build it, or correct the path", self.file());
        self.at_component(codes::COMPONENT_MISSING, message).help(help)
    }

    pub fn unreadable(&self, error: &std::io::Error) -> Diagnostic {
        let message = format!("the component of `{}` cannot be read: {error}", self.consumer);
        let help = format!("let the host's user read {}", self.file());
        self.at_component(codes::COMPONENT_UNREADABLE, message).help(help)
    }

    /// [`Subject::missing`] or [`Subject::unreadable`].
    pub fn io(&self, error: &std::io::Error) -> Diagnostic {
        if error.kind() == std::io::ErrorKind::NotFound { self.missing() } else { self.unreadable(error) }
    }

    pub fn not_a_file(&self) -> Diagnostic {
        let message = format!("the component of `{}` is not a regular file", self.consumer);
        let help = format!(
            "{} is a folder, a device, a pipe or a file of the kernel's; name the .wasm file itself",
            self.file()
        );
        self.at_component(codes::COMPONENT_NOT_A_FILE, message).help(help)
    }

    pub fn too_large(&self, bytes_max: u64) -> Diagnostic {
        let message = format!("the component of `{}` is larger than {bytes_max} bytes", self.consumer);
        let help = "build it with optimisation for size and without debug information (`strip = true`)";
        self.at_component(codes::COMPONENT_TOO_LARGE, message).help(help)
    }

    pub fn core_module(&self) -> Diagnostic {
        let message = format!("{} is a core module, not a component", self.file());
        let help = "build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`";
        self.at_component(codes::COMPONENT_CORE_MODULE, message).help(help)
    }

    pub fn precompiled(&self) -> Diagnostic {
        let message = format!("{} is compiled machine code, which is never run from a file", self.file());
        let help = "name the .wasm component itself; the host compiles it and keeps the result";
        self.at_component(codes::COMPONENT_PRECOMPILED, message).help(help)
    }

    pub fn not_wasm(&self) -> Diagnostic {
        let message = format!("{} is not WebAssembly in binary form", self.file());
        let help = "name a compiled component; a text (.wat) is turned into one by `wasm-tools parse`";
        self.at_component(codes::COMPONENT_NOT_WASM, message).help(help)
    }

    /// `reason`: the compiler's, which may quote the component.
    pub fn invalid(&self, reason: &str) -> Diagnostic {
        let message = format!("the component of `{}` does not compile", self.consumer);
        let help = format!("the compiler says {}; build the component again", said(reason));
        self.at_component(codes::COMPONENT_INVALID, message).help(help)
    }

    /// It would fail in every attempt. `outcome`: how, such as `out-of-fuel`.
    pub fn start(&self, outcome: &str, reason: &str) -> Diagnostic {
        let message = format!("the component of `{}` fails when it is started: {outcome}", self.consumer);
        let help = format!("it says {}; look at what it does before its handler is called", said(reason));
        self.at_component(codes::COMPONENT_START, message).help(help)
    }

    /// An interface of the contract with other functions or types than the contract's.
    pub fn contract(&self, reason: &str) -> Diagnostic {
        let message = format!("the component of `{}` does not fit the contract `tidegate:consumer`", self.consumer);
        let help = format!("the difference is {}; build it with the wit files of this version", said(reason));
        self.at_component(codes::COMPONENT_CONTRACT, message).help(help)
    }

    pub fn resources(&self, what: &str, number: u64, limit: u64) -> Diagnostic {
        let message = format!("the component of `{}` needs {number} {what}; the limit is {limit}", self.consumer);
        let help =
            format!("raise `memory` of `{}` if that is the limit, or build it to begin with less", self.consumer);
        self.at_component(codes::COMPONENT_RESOURCES, message).help(help)
    }

    /// The process that compiles could not do its work, whatever the component is like.
    pub fn compiler(&self, error: &std::io::Error) -> Diagnostic {
        let message = format!("the component of `{}` could not be compiled: {error}", self.consumer);
        let help = "this is the machine's trouble, not the component's: look at processes, memory and disk, and reload";
        self.at_component(codes::COMPONENT_COMPILER, message).help(help)
    }

    pub fn unstable(&self) -> Diagnostic {
        let message = format!("the component of `{}` changed while it was read", self.consumer);
        let help =
            "a host tries again by itself when the file is whole; write it elsewhere and rename it over the old one";
        self.at_component(codes::COMPONENT_UNSTABLE, message).help(help)
    }

    /// `limit`: what was exceeded, such as "30 s".
    pub fn costly(&self, limit: &str) -> Diagnostic {
        let message = format!("compiling the component of `{}` took more than {limit}", self.consumer);
        let help = "a component of this cost is refused; look for generated functions of extreme size";
        self.at_component(codes::COMPONENT_COSTLY, message).help(help)
    }

    /// `imports`: the interfaces, such as `tidegate:consumer/publisher`; `grants`: what would allow them, in the same order, such as
    /// `publish: [order.confirmed]`; `examples`: whether names in these are examples only.
    pub fn imports_not_granted(&self, imports: &[&str], grants: &[String], examples: bool) -> Diagnostic {
        let message = match imports {
            [one] => format!("`{}` imports {}, which is not granted", self.consumer, quoted(one)),
            all => format!("`{}` imports what is not granted: {}", self.consumer, list(all)),
        };
        let (consumer, all) = (self.consumer, grants.join(", "));
        let add = match self.spans.consumers.get(self.consumer) {
            // A line each: where `grants` is written over several lines, a list on one would be none.
            Some(places) if places.grants.is_some() => {
                let each: Vec<String> = grants.iter().map(|grant| format!("`{grant}`")).collect();
                format!("add {} to the grants of `{consumer}`", each.join(" and "))
            }
            Some(places) if places.described => format!("add `grants: {{ {all} }}` to `{consumer}`"),
            _ => format!("add `{consumer}: {{ grants: {{ {all} }} }}` under `consumers`"),
        };
        let names = if examples { ", with the names that it really needs" } else { "" };
        let them = if imports.len() == 1 { "this import" } else { "these imports" };
        let help = format!("{add}{names}, or build it without {them}");
        self.at_grants(codes::IMPORT_NOT_GRANTED, message).help(help)
    }

    pub fn imports_not_served(&self, imports: &[String]) -> Diagnostic {
        let message = match imports {
            [one] => format!("`{}` imports {}, which this version does not provide", self.consumer, quoted(one)),
            all => format!("`{}` imports what this version does not provide: {}", self.consumer, list(all)),
        };
        let them = if imports.len() == 1 { "this import" } else { "these imports" };
        let help = format!("build it without {them}, or for the version of the contract that this host serves");
        self.at_component(codes::IMPORT_NOT_SERVED, message).help(help)
    }

    /// `exports`: what the component exports instead.
    pub fn export_missing(&self, exports: &[String]) -> Diagnostic {
        let message = format!("the component of `{}` exports no handler", self.consumer);
        let found = if exports.is_empty() { "nothing".to_owned() } else { list(exports) };
        let help = format!("it exports {found}; export `tidegate:consumer/handler`, as `#[consumer]` of the SDK does");
        self.at_component(codes::EXPORT_MISSING, message).help(help)
    }

    /// The manifest says `batch`, and the component takes one delivery at a time.
    pub fn no_batch_handler(&self) -> Diagnostic {
        let message = format!("the component of `{}` takes one delivery at a time, not batches", self.consumer);
        let help = "remove `batch`, or export `tidegate:consumer/batch-handler` instead, as `#[batch_consumer]` of the SDK does";
        self.at_batch(message, "this component exports no `batch-handler`").help(help)
    }

    /// The manifest does not say `batch`, and the component takes nothing else.
    pub fn no_batches(&self) -> Diagnostic {
        let message = format!("the component of `{}` takes batches, and gets one delivery at a time", self.consumer);
        let help = format!(
            "add `batch: {{ size: 100, wait: 200ms }}` to `{}`, or export `tidegate:consumer/handler` instead, as \
             `#[consumer]` of the SDK does",
            self.consumer
        );
        self.at_component(codes::BATCH_MISMATCH, message).help(help)
    }

    pub fn both_handlers(&self) -> Diagnostic {
        let message = format!("the component of `{}` exports a handler and a batch handler", self.consumer);
        let help = "a component exports one of the two; make two components of it, a consumer for each";
        self.at_batch(message, "this component exports both").help(help)
    }

    /// At the key `answers`, and the component as well.
    fn at_answers(&self, message: String) -> Diagnostic {
        let places = self.spans.consumers.get(self.consumer);
        match places.and_then(|places| Some((places, places.answers.clone()?))) {
            Some((places, answers)) => Diagnostic::error(codes::RESPONDER_MISMATCH, message)
                .at(&self.spans.source, answers, "answered by nothing")
                .at(&self.spans.source, places.component.clone(), "exports no responder"),
            None => self.at_component(codes::RESPONDER_MISMATCH, message),
        }
    }

    /// The manifest says `answers`, and the component does not answer.
    pub fn no_responder(&self) -> Diagnostic {
        let message = format!("the component of `{}` answers no questions", self.consumer);
        let help =
            "remove `answers`, or export `tidegate:consumer/responder` as well, as `#[responder]` of the SDK does";
        self.at_answers(message).help(help)
    }

    /// The component answers, and the manifest does not say what.
    pub fn no_answers(&self) -> Diagnostic {
        let message = format!("the component of `{}` answers questions, and it is not said which", self.consumer);
        let help = format!(
            "add `answers` with their types to `{}`, such as `answers: stock.check`, or build it without a responder",
            self.consumer
        );
        self.at_component(codes::RESPONDER_MISMATCH, message).help(help)
    }

    pub fn digest_mismatch(&self, found: Digest) -> Diagnostic {
        let message = format!("the component of `{}` is not the one that `sha256` names", self.consumer);
        let help = format!("{} has the digest {found}; write that if it is the file you mean", self.file());
        let places = self.spans.consumers.get(self.consumer);
        match places.and_then(|places| places.sha256.clone()) {
            Some(span) => {
                Diagnostic::error(codes::DIGEST_MISMATCH, message).at(&self.spans.source, span, "").help(help)
            }
            None => self.at_component(codes::DIGEST_MISMATCH, message).help(help),
        }
    }
}

/// The manifest says that the consumer begins at a time that has not come.
pub fn begins_later(spans: &Spans, consumer: &ConsumerName, time: Timestamp) -> Diagnostic {
    let message = format!("`{consumer}` is to begin at {time}, which has not come: it begins with what comes now");
    let problem = Diagnostic::warning(codes::BEGINS_LATER, message);
    let problem = match spans.consumers.get(consumer).and_then(|places| places.from.clone()) {
        Some(span) => problem.at(&spans.source, span, "in the future"),
        None => problem,
    };
    problem.help("correct the time, say `end` if that is meant, or deploy the consumer when the time has come")
}

impl Demand {
    /// The component of the consumer that a step names has no such export.
    pub fn unmet(&self, spans: &Spans) -> Diagnostic {
        let Self { step, consumer, .. } = self;
        let (does, attribute) = match self.role {
            Role::Step => ("do", "#[consumer]"),
            Role::Compensation => ("undo", "#[compensator]"),
        };
        let export = self.role.export();
        let message = format!("`{consumer}` cannot {does} step `{step}`: its component exports no {export}");
        let help = format!(
            "export `tidegate:consumer/{export}`, as `{attribute}` of the SDK does, or name a consumer whose component does"
        );
        let mut problem = Diagnostic::error(codes::STEP_EXPORT, message)
            .at(&spans.source, self.span.clone(), "named here")
            .help(help);
        if let Some(places) = spans.consumers.get(consumer) {
            problem = problem.at(&spans.source, places.component.clone(), "this component");
        }
        problem
    }
}

/// Names that a component gives, not all of them if they are many.
fn list(names: &[impl AsRef<str>]) -> String {
    const SHOWN_MAX: usize = 8;
    let mut shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| quoted(name.as_ref())).collect();
    if names.len() > SHOWN_MAX {
        shown.push(format!("and {} more", names.len() - SHOWN_MAX));
    }
    shown.join(", ")
}

/// The first line of what may quote the component, short and harmless.
fn said(reason: &str) -> String {
    let line: String = reason.lines().next().unwrap_or_default().chars().take(200).collect();
    quoted(&line)
}
