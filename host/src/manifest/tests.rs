use super::*;

fn env(name: &str) -> Option<String> {
    match name {
        "SHOP_TOKEN" => Some("shop-token-of-32-characters-here".to_owned()),
        "MAIL_API_KEY" => Some("key: [".to_owned()),
        "SIGNING_KEY" => Some("signing".to_owned()),
        _ => None,
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/diagnostics")
}

#[test]
fn smoke() {
    for name in ["minimal", "maximal"] {
        match load(&fixtures().join(format!("{name}.yaml")), &env) {
            Ok(compiled) => println!("{:#?}", compiled),
            Err(problems) => panic!("{}", problems.render(false)),
        }
    }
}
