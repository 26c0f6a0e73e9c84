//! Sizes beyond the limits, deep nesting, and reading files.

use super::errors::{BOX, HEADER, check};
use super::with_header;
use crate::error::ErrorKind::{self, TooBig, Unsupported};
use crate::verify::vnnlib::parser::Parser;
use crate::verify::vnnlib::{parse, read};

#[test]
fn limits() {
    let flat = "`and`, `or`, `+` and `*` take any number of operands: write them flat";
    let deep = format!("(assert {}(<= Y_0 0){})", "(and ".repeat(100_000), ")".repeat(100_000));
    let sum = format!("(assert (<= Y_0 {}1{}))", "(+ ".repeat(100_000), ")".repeat(100_000));
    check(
        Unsupported,
        HEADER,
        &[
            (&deep, (3, 9 + 5 * 255), "brackets nest deeper than 256", flat),
            (&sum, (3, 17 + 3 * 254), "brackets nest deeper than 256", flat),
        ],
    );
    let split = "split the property: one file for each part of the `or`";
    let header = format!("{HEADER}{BOX}");
    let many = "(assert (or (<= Y_0 0) (<= Y_1 0)))".repeat(17);
    let (rows, terms) = ("(<= Y_0 0)".repeat(1000), "(<= Y_1 2)".repeat(10_000));
    let product = "with this `or` the property multiplies out to";
    check(
        TooBig,
        &header,
        &[
            (&many, (4, 1 + 35 * 16 + 8), &format!("{product} 131072 alternatives; at most 100000 are read"), split),
            (
                &format!("(assert (or (and {rows}(or {terms})) (<= Y_0 0)))"),
                (4, 18 + 10_000),
                &format!("{product} 20020000 coefficients; at most 5000000 are read"),
                split,
            ),
            (
                &format!("(assert (and {rows}(or {terms})))"),
                (4, 14 + 10_000),
                "10000 alternatives share 2000 coefficients, too many to write out",
                split,
            ),
        ],
    );
    let groups: String = (1..=20).map(|i| format!("(<= X_0 0.{i:02})")).collect();
    let text = with_header(100, 1, false, &format!("(assert (or {groups}))(assert (<= Y_0 0))"));
    let mut parser = Parser::new(&text);
    parser.max_intervals = 1000;
    let error = parser.run().expect_err("20 boxes of 100");
    assert_eq!((error.kind(), error.message()), (TooBig, "11 boxes of 100 inputs are too many to hold"));
    assert_eq!(error.place().and_then(|p| p.position), Some((302, 13 + 10 * 13)));
    assert_eq!(parse(&text).unwrap().queries.len(), 20);
}

#[test]
fn nesting_up_to_the_limit_fits_a_small_stack() {
    let nested = |open: &str, inner: &str, n: usize| open.repeat(n) + inner + &")".repeat(n);
    let expression = nested("(+ 1 ", "Y_0", 120);
    let conditions = nested("(or (<= Y_1 0) ", &format!("(<= Y_0 {expression})"), 134);
    let text = format!("{HEADER}{BOX}(assert {conditions})");
    let parsed =
        std::thread::Builder::new().stack_size(512 * 1024).spawn(move || parse(&text)).unwrap().join().unwrap();
    assert_eq!(parsed.unwrap().queries[0].unsafe_if.len(), 135);
}

#[test]
fn read_names_the_file() {
    let folder = std::env::temp_dir().join(format!("wavehull-vnnlib-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let good = format!("{HEADER}{BOX}(assert (<= Y_0 0))");
    let (property, bytes) = read(&at("plain.vnnlib", good.as_bytes())).unwrap();
    assert_eq!((property.inputs, bytes.as_slice()), (2, good.as_bytes()));

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, good.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let (same, bytes) = read(&at("packed", &packed)).unwrap();
    assert_eq!((same, bytes.as_slice()), (property, good.as_bytes()));

    let path = at("cut.gz", &packed[..packed.len() / 2]);
    let error = read(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.help(), Some("the file starts like a gzip file; `gzip -t` tells what is wrong with it"));
    assert_eq!(error.place().map(|p| p.file.clone()), Some(path));

    let path = at("bad.vnnlib", b"(declare-const X_0 Real)\n; \xc3\xa9 \xff");
    let error = read(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("{}:2:5: this byte is not UTF-8 text", path.display()));

    let path = at("open.vnnlib", b"(declare-const X_0 Real");
    let error = read(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("{}:1:1: this `(` is never closed", path.display()));

    let path = folder.join("absent.vnnlib");
    let error = read(&path).unwrap_err();
    assert_eq!((error.kind(), error.help()), (ErrorKind::Io, Some("check the path, and that the file may be read")));
    std::fs::remove_dir_all(&folder).unwrap();
}
