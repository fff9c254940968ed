//! Who gets in: host names, sites, tokens and scopes.

use super::support::{Fixture, request, server, token};
use crate::model::spec::Scope;
use crate::server::route::{Access, ROUTES};
use crate::server::{Error, bind};

#[tokio::test]
async fn only_names_that_are_served_are_answered() {
    let fixture = Fixture::new();
    for (host, status) in [
        ("localhost", 200),
        ("localhost:7420", 200),
        ("LOCALHOST.", 200),
        ("127.0.0.1", 200),
        ("127.1.2.3:80", 200),
        ("[::1]:7420", 200),
        ("[::ffff:127.0.0.1]", 200),
        ("events.example", 200),
        ("Events.Example:443", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("events.example.evil", 403),
        ("10.0.0.1", 403),
        ("[::2]", 403),
        ("0.0.0.0", 403),
        ("", 400),
        ("local host", 400),
        ("localhost:port", 400),
        ("localhost:99999", 400),
        ("user@localhost", 400),
        ("[::1", 400),
        ("localhost/x", 400),
    ] {
        let answer = fixture.send(request("GET", "/livez", &[("host", host)], "")).await;
        assert_eq!(answer.status.as_u16(), status, "{host:?}");
    }
    fixture.send(request("GET", "/livez", &[("host", "evil.example")], "")).await.problem(403, "foreign-host");
    fixture.send(request("GET", "http://evil.example/livez", &[], "")).await.problem(403, "foreign-host");
    let twice = request("GET", "/livez", &[("host", "localhost"), ("host", "localhost")], "");
    fixture.send(twice).await.problem(400, "malformed-request");
    let mut none = request("GET", "/livez", &[], "");
    none.headers_mut().remove("host");
    fixture.send(none).await.problem(400, "malformed-request");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_write() {
    let fixture = Fixture::new();
    for (headers, allowed) in [
        (vec![], true),
        (vec![("origin", "http://localhost:7420")], true),
        (vec![("origin", "http://localhost:7421")], false),
        (vec![("origin", "https://evil.example")], false),
        (vec![("origin", "null")], false),
        (vec![("sec-fetch-site", "same-origin")], true),
        (vec![("sec-fetch-site", "cross-site")], false),
        (vec![("sec-fetch-site", "same-site")], false),
    ] {
        let answer = fixture.send(request("POST", "/reload", &headers, "")).await;
        assert_eq!(answer.status == 200, allowed, "{headers:?}");
        if !allowed {
            answer.problem(403, "foreign-origin");
        }
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn each_route_wants_its_scope() {
    let mut spec = server();
    let scopes = [("publish", Scope::Publish), ("read", Scope::Read), ("operate", Scope::Operate)];
    spec.tokens = scopes.iter().map(|(name, scope)| token(name, &format!("{name}-token"), &[*scope])).collect();
    let fixture = Fixture::of(spec);
    for route in &ROUTES {
        if route.path == "/stream" || route.path == "/wait" {
            continue;
        }
        let path = route.path.replace("{seq}", "1").replace("{round}", "0").replace(['{', '}'], "");
        let ask = |authorization: Option<String>| {
            let headers: Vec<(&str, &str)> =
                authorization.iter().map(|value| ("authorization", value.as_str())).collect();
            let request = request(route.method.as_str(), &path, &headers, "");
            async { fixture.send(request).await }
        };
        let open = route.access == Access::Open;
        for wrong in
            [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic cmVhZC10b2tlbg=="), Some("Bearer read-token2")]
        {
            let answer = ask(wrong.map(str::to_owned)).await;
            assert_eq!(answer.status != 401, open, "{} {wrong:?}", route.path);
            if !open {
                answer.problem(401, "unauthorized");
                assert!(answer.header("www-authenticate").starts_with("Bearer"));
            }
        }
        for (name, scope) in scopes {
            let answer = ask(Some(format!("bearer {name}-token"))).await;
            let allowed =
                open || matches!(route.access, Access::Scope(needed) | Access::Always(needed) if needed == scope);
            assert_eq!(answer.status != 403, allowed, "{} {name}", route.path);
        }
        let boot = ask(Some("Bearer boot-token".into())).await;
        assert!(boot.status != 401 && boot.status != 403, "{}", route.path);
    }
}

#[tokio::test]
async fn probes_tell_strangers_what_fails_but_not_why() {
    let mut spec = server();
    spec.tokens = vec![token("reader", "read-token", &[Scope::Read])];
    let fixture = Fixture::of(spec);
    assert_eq!(fixture.get("/readyz").await.text(), "ok");
    assert!(fixture.get("/healthz?verbose").await.text().contains("[+]log ok\n"));
    *fixture.control.unready.lock().unwrap() = Some("the disk of /var is full".into());
    let stranger = fixture.get("/readyz").await;
    assert_eq!(stranger.status, 503);
    assert!(stranger.text().contains("[-]log failed\n") && !stranger.text().contains("/var"));
    let known = fixture.send(request("GET", "/readyz", &[("authorization", "Bearer read-token")], "")).await;
    assert!(known.text().contains("[-]log failed: the disk of /var is full"));
    assert_eq!(fixture.get("/readyz?exclude=log").await.status, 200);
    assert_eq!(fixture.get("/livez").await.status, 200);
    fixture.get("/readyz?exclude=lgo").await.problem(400, "unknown-parameter");
    *fixture.control.unready.lock().unwrap() = None;
    fixture.stop.send(true).unwrap();
    assert_eq!(fixture.get("/readyz").await.status, 503);
    assert_eq!(fixture.get("/livez").await.status, 200);
}

#[tokio::test]
async fn listening_wide_needs_tokens_and_a_taken_port_is_named() {
    let mut spec = server();
    spec.listen = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(bind(&spec).await, Err(Error::Unprotected { .. })));
    spec.listen = "127.0.0.1:0".parse().unwrap();
    let first = bind(&spec).await.unwrap();
    spec.listen = first.local_addr().unwrap();
    let taken = bind(&spec).await.unwrap_err();
    assert!(matches!(taken, Error::AddrInUse { addr, .. } if addr == spec.listen));
}
