//! The schema, the readers and the reference say the same.

use super::*;

/// A tree as JSON, with the types of YAML.
fn json(node: &yaml::Node) -> serde_json::Value {
    use super::yaml::{Kind, Value};
    match &node.value {
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.text.clone(), json(&entry.value))).collect(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Scalar(scalar) => match scalar.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool(value) => value.into(),
            Kind::Number => serde_json::from_str(&scalar.text).unwrap_or_else(|_| scalar.text.clone().into()),
            Kind::Text | Kind::Broken => scalar.text.clone().into(),
        },
    }
}

fn tree(text: &str) -> serde_json::Value {
    json(&yaml::parse(text).ok().unwrap())
}

#[test]
fn the_schema_is_one_and_takes_what_the_compiler_takes() {
    let schema = schema();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for text in ["tidegate: 1\n", maximal().as_str()] {
        let instance = tree(text);
        let problems: Vec<String> =
            validator.iter_errors(&instance).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(problems.is_empty(), "{problems:#?}");
    }
    for name in ["unknown-key", "wrong-types", "missing-keys", "not-served", "wrong-unit", "language", "choices"] {
        let text = std::fs::read_to_string(fixtures().join(format!("{name}.yaml"))).unwrap();
        assert!(!validator.is_valid(&tree(&text)), "{name}");
    }
    let mut unknown = tree(&maximal());
    unknown.as_object_mut().unwrap().insert("pipeline".to_owned(), 1.into());
    assert!(!validator.is_valid(&unknown));
}

#[test]
fn the_examples_are_taken_by_both() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path().join("tidegate.yaml");
        if !path.is_file() {
            continue;
        }
        let source = read(&path).unwrap();
        let compiled = compile(&source, &env, &[]).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(compiled.warnings.is_empty(), "{}", compiled.warnings);
        validator.validate(&tree(&source.text)).unwrap();
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn readers_and_schema_know_the_same_keys() {
    let schema = schema();
    let mut all = maximal();
    all.push(' ');
    for (name, shape) in SHAPES {
        let definition = if *name == "Manifest" { &schema } else { &schema["$defs"][name] };
        let mut keys: Vec<&str> = definition["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut known = shape.keys.to_vec();
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known, "{name}");
        assert_eq!(definition["additionalProperties"], false, "{name}");
        for key in shape.keys {
            assert!(all.contains(&format!("{key}:")), "the maximal manifest lacks `{key}`");
            assert!(!shape.later.contains(key), "{name}: `{key}` is served");
            let description = &definition["properties"][key]["description"];
            assert!(*key == "tidegate" || description.is_string(), "{name}: `{key}` has no description");
        }
    }
    for (name, key, range) in elements::bounds::table() {
        let description = schema["$defs"][name]["properties"][key]["description"].as_str().unwrap();
        assert!(description.contains(&range), "{name} {key}");
    }
}

/// The tree with the value of its n-th entry exchanged for one that fits nowhere; the key, and whether there was one.
fn spoil(node: &mut yaml::Node, n: &mut usize) -> Option<String> {
    use super::yaml::Value;
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().find_map(|entry| {
            if *n == 0 {
                let inner = yaml::Node { span: 0..0, value: Value::List(Vec::new()) };
                let list = yaml::Node { span: 0..0, value: Value::List(vec![inner]) };
                entry.value.value = Value::List(vec![list]);
                return Some(entry.key.text.clone());
            }
            *n -= 1;
            spoil(&mut entry.value, n)
        }),
        Value::List(items) => items.iter_mut().find_map(|item| spoil(item, n)),
        Value::Scalar(_) => None,
    }
}

/// Whether reading the maximal manifest finds problems, with the value of its n-th entry spoilt.
fn refused(text: &str, n: Option<usize>) -> Option<(String, bool)> {
    let source = Arc::new(Source { path: fixtures().join("maximal.yaml"), text: text.to_owned() });
    let mut reader = reader::Reader::new(source, fixtures());
    let mut tree = yaml::parse(text).ok().unwrap();
    expand::expand(&mut reader, &mut tree, &env);
    let key = n.map_or(Some(String::new()), |mut n| spoil(&mut tree, &mut n))?;
    authored::read(&mut reader, &tree);
    Some((key, reader.into_problems().has_errors()))
}

#[test]
fn no_key_is_passed_over() {
    let text = maximal();
    assert_eq!(refused(&text, None), Some((String::new(), false)));
    let mut entries = 0;
    while let Some((key, refused)) = refused(&text, Some(entries)) {
        // What a schedule emits may be any JSON.
        assert!(refused || ["data", "kind"].contains(&key.as_str()), "nobody reads `{key}` (entry {entries})");
        entries += 1;
    }
    assert!(entries > 80, "only {entries} entries");
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manifest.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, reference::reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == reference::reference(), "run: UPDATE_DOCS=1 cargo test -p tidegate --lib reference");
}
