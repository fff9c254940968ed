//! Any text at all.

use super::*;

#[derive(Clone, Debug)]
enum Edit {
    Delete(usize, usize),
    Insert(usize, String),
    Copy(usize, usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = 0..4_000_usize;
    let bits = [
        "\n", " ", "  ", ":", ": ", "- ", "\t", "\"", "'", "{", "}", "[", "]", ",", "#", "&a ", "*a", "!t ", "|", ">-",
        "%", "${", "}", "$${", "~", "0", "-1", "1e400", ".nan", "null", "é", "\u{202e}", "\u{0}", "\u{85}", "<<: ",
        "? ", "---\n", "...",
    ];
    prop_oneof![
        (at.clone(), 1..40_usize).prop_map(|(at, length)| Edit::Delete(at, length)),
        (at.clone(), prop::sample::select(bits.to_vec())).prop_map(|(at, bit)| Edit::Insert(at, bit.to_owned())),
        (at.clone(), 1..80_usize, at).prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
    ]
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for edit in edits {
        let length = chars.len();
        let end = |at: usize, more: usize| (at + more).min(length);
        match edit {
            Edit::Delete(at, more) if *at < length => drop(chars.drain(*at..end(*at, *more))),
            Edit::Insert(at, bit) => {
                let at = end(*at, 0);
                chars.splice(at..at, bit.chars());
            }
            Edit::Copy(from, more, to) if *from < length => {
                let piece = chars[*from..end(*from, *more)].to_vec();
                let to = end(*to, 0);
                chars.splice(to..to, piece);
            }
            _ => {}
        }
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_and_each_problem_has_a_place(edits in prop::collection::vec(edit(), 1..6)) {
        let text = edited(&maximal(), &edits);
        let lines = text.split('\n').count();
        if let Err(problems) = compiled(&text) {
            prop_assert!(problems.has_errors());
            let turned = problems.render(false).contains('\u{202e}');
            prop_assert!(!turned);
            for problem in &problems {
                let (line, column) = problem.position().unwrap();
                prop_assert!((1..=lines).contains(&line) && column >= 1, "{problem}");
            }
        }
    }

    #[test]
    fn no_noise_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let Ok(source) = decode(Path::new("t.yaml"), bytes) else { return Ok(()) };
        drop(compile(&source, &env, &[]));
    }
}
