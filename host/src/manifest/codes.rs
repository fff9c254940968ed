//! Every code a diagnostic can have. A code never changes its meaning and is never used again for another.
//! `explain.md` holds the page that `tidegate explain CODE` prints.

macro_rules! codes {
    ($($name:ident = $code:literal;)*) => {
        $(pub const $name: &str = $code;)*
        /// All codes, in order.
        pub const ALL: &[&str] = &[$($code),*];
    };
}

codes! {
    // The file.
    UNREADABLE = "TG001";
    NOT_A_FILE = "TG002";
    TOO_LARGE = "TG003";
    NOT_UTF8 = "TG004";
    // Its form.
    SYNTAX = "TG101";
    COMPLEX = "TG102";
    ALIAS = "TG103";
    TAG = "TG104";
    DOCUMENTS = "TG105";
    EMPTY = "TG106";
    DUPLICATE_KEY = "TG107";
    UNKNOWN_KEY = "TG108";
    NOT_SERVED = "TG109";
    MISSING_KEY = "TG110";
    WRONG_TYPE = "TG111";
    UNSET_VARIABLE = "TG112";
    MALFORMED_VARIABLE = "TG113";
    // Single values.
    DURATION = "TG201";
    SIZE = "TG202";
    COUNT = "TG203";
    OUT_OF_RANGE = "TG204";
    CHOICE = "TG205";
    EVENT_TYPE = "TG206";
    NAME = "TG207";
    LANGUAGE = "TG208";
    ADDRESS = "TG209";
    LOG = "TG210";
    ORIGIN = "TG211";
    DIGEST = "TG212";
    VERSION = "TG213";
    PATH = "TG214";
    TOKEN = "TG215";
    RESERVED_TYPE = "TG216";
    RATE = "TG217";
    EXPRESSION = "TG218";
    EXPRESSION_KIND = "TG219";
    BEGINNING = "TG220";
    CRON = "TG221";
    ZONE = "TG222";
    NO_STEPS = "TG230";
    // Values together.
    OPEN_LISTEN = "TG301";
    CONTRADICTION = "TG302";
    NO_COMPONENT = "TG303";
    NO_SUBSCRIPTION = "TG304";
    FOLDER_TWICE = "TG305";
    FOLDER_OTHER = "TG306";
    SCHEMA = "TG307";
    CYCLE = "TG308";
    UNDECLARED = "TG309";
    FOLDER = "TG310";
    FOLDER_NAME = "TG311";
    REPEATED = "TG312";
    EXAMPLE = "TG313";
    LOG_MOVED = "TG314";
    EXCLUSIVE = "TG315";
    WITHOUT = "TG316";
    ABSENT = "TG317";
    PERHAPS_ABSENT = "TG318";
    NEVER_FIRES = "TG319";
    SCHEDULE_DATA = "TG320";
    JOB_TARGET = "TG321";
    QUESTION_CYCLE = "TG322";
    BEGINS_LATER = "TG323";
    // Pipelines.
    NAME_SHARED = "TG330";
    STEPS = "TG331";
    STEP_TWICE = "TG332";
    UNKNOWN_CONSUMER = "TG333";
    UNKNOWN_STEP = "TG334";
    STEP_CONSUMER = "TG335";
    WAIT_TOO_LONG = "TG336";
    WAIT_BEGINS = "TG337";
    MATCH_APART = "TG338";
    UNANSWERED = "TG340";
    // Components.
    COMPONENT_MISSING = "TG401";
    COMPONENT_UNREADABLE = "TG402";
    COMPONENT_NOT_A_FILE = "TG403";
    COMPONENT_TOO_LARGE = "TG404";
    COMPONENT_CORE_MODULE = "TG405";
    COMPONENT_PRECOMPILED = "TG406";
    COMPONENT_NOT_WASM = "TG407";
    COMPONENT_INVALID = "TG408";
    COMPONENT_COSTLY = "TG409";
    IMPORT_NOT_GRANTED = "TG410";
    IMPORT_NOT_SERVED = "TG411";
    EXPORT_MISSING = "TG412";
    DIGEST_MISMATCH = "TG413";
    COMPONENT_START = "TG414";
    COMPONENT_CONTRACT = "TG415";
    COMPONENT_RESOURCES = "TG416";
    COMPONENT_COMPILER = "TG417";
    COMPONENT_UNSTABLE = "TG418";
    BATCH_MISMATCH = "TG419";
    STEP_EXPORT = "TG430";
    RESPONDER_MISMATCH = "TG440";
}

const PAGES: &str = include_str!("explain.md");

/// The page about a code: Markdown, without its heading. Upper or lower case.
pub fn explain(code: &str) -> Option<&'static str> {
    PAGES.split("\n## ").skip(1).find_map(|page| {
        let (heading, body) = page.split_once('\n')?;
        let named = heading.split_whitespace().next()?;
        named.eq_ignore_ascii_case(code).then(|| body.trim())
    })
}

/// What a code stands for, in a few words.
pub fn title(code: &str) -> Option<&'static str> {
    PAGES.split("\n## ").skip(1).find_map(|page| {
        let (named, title) = page.lines().next()?.split_once(' ')?;
        named.eq_ignore_ascii_case(code).then_some(title)
    })
}
