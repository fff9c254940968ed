//! The attributes refuse what cannot work and point at the user's own token.

#[test]
fn right_functions_compile() {
    trybuild::TestCases::new().pass("tests/pass/*.rs");
}

#[test]
fn wrong_functions_are_refused_where_they_are_wrong() {
    trybuild::TestCases::new().compile_fail("tests/fail/*.rs");
}
