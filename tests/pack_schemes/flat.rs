//! Just enough of a flatbuffer to find the int8 weights of a TFLite file.

fn word(b: &[u8], at: usize) -> usize {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize
}

/// Where field `i` of a table lies; none if it is left out.
fn field(b: &[u8], table: usize, i: usize) -> Option<usize> {
    let back = i32::from_le_bytes(b[table..table + 4].try_into().unwrap());
    let vtable = usize::try_from(table as i64 - i64::from(back)).unwrap();
    let half = |at: usize| usize::from(u16::from_le_bytes([b[at], b[at + 1]]));
    let slot = 4 + 2 * i;
    (slot < half(vtable)).then(|| half(vtable + slot)).filter(|&offset| offset > 0).map(|offset| table + offset)
}

fn vector(b: &[u8], table: usize, i: usize) -> (usize, usize) {
    field(b, table, i).map_or((0, 0), |at| (at + word(b, at) + 4, word(b, at + word(b, at))))
}

fn tables(b: &[u8], table: usize, i: usize) -> Vec<usize> {
    let (first, n) = vector(b, table, i);
    (0..n).map(|k| first + 4 * k + word(b, first + 4 * k)).collect()
}

fn words(b: &[u8], table: usize, i: usize) -> Vec<usize> {
    let (first, n) = vector(b, table, i);
    (0..n).map(|k| word(b, first + 4 * k)).collect()
}

/// Name, shape as `[filter, ky, kx, channel]` and bytes of every weight, in the order of operators.
pub fn weights(b: &[u8]) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let model = word(b, 0);
    let code = |t: usize| field(b, t, 3).map_or(0, |at| word(b, at)).max(field(b, t, 0).map_or(0, |at| b[at].into()));
    let codes: Vec<usize> = tables(b, model, 1).into_iter().map(code).collect();
    let buffers = tables(b, model, 4);
    let graph = tables(b, model, 2)[0];
    let tensors = tables(b, graph, 0);
    let mut found = Vec::new();
    for operator in tables(b, graph, 3) {
        let kind = codes[field(b, operator, 0).map_or(0, |at| word(b, at))];
        if ![3, 4, 9].contains(&kind) {
            continue;
        }
        let tensor = tensors[words(b, operator, 1)[1]];
        let (data, len) = vector(b, buffers[field(b, tensor, 2).map_or(0, |at| word(b, at))], 0);
        let mut shape = words(b, tensor, 0);
        if kind == 9 {
            shape = vec![shape[0], 1, 1, shape[1]];
        }
        let (name, letters) = vector(b, tensor, 3);
        found.push((String::from_utf8(b[name..name + letters].to_vec()).unwrap(), shape, b[data..data + len].to_vec()));
    }
    found
}
