// Channel-major order cut into chunks, over data [filters, positions, channels] (channels innermost): the stream goes through channel 0 of
// filter 0, its positions, then channel 1. A chunk is p.length values of the stream: inside a channel of a filter if p.per_channel > 0 (so
// many chunks each, the last one shorter), else across channels and filters.
// The importing kernel's parameters have values, positions, channels, length, per_channel, chunks.

struct Cursor {
    k: u32,     // position in the filter
    c: u32,     // channel
    base: u32,  // first value of the filter
    at: u32,    // the value itself
}

// The chunk of invocation t: neighbours take neighbouring channels, so that they read neighbouring values.
fn chunk_of(t: u32) -> u32 {
    if (p.per_channel == 0u) {
        return t;
    }
    let row = t / p.channels;
    let c = t - row * p.channels;
    let f = row / p.per_channel;
    return (f * p.channels + c) * p.per_channel + row - f * p.per_channel;
}

fn chunk_start(o: u32) -> Cursor {
    var s: Cursor;
    if (p.per_channel > 0u) {
        let row = o / p.per_channel;
        s.k = (o - row * p.per_channel) * p.length;
        let f = row / p.channels;
        s.c = row - f * p.channels;
        s.base = f * p.positions * p.channels;
    } else {
        let first = o * p.length;
        let row = first / p.positions;
        s.k = first - row * p.positions;
        let f = row / p.channels;
        s.c = row - f * p.channels;
        s.base = f * p.positions * p.channels;
    }
    s.at = s.base + s.k * p.channels + s.c;
    return s;
}

fn chunk_length(o: u32, start: Cursor) -> u32 {
    return min(p.length, select(p.values - o * p.length, p.positions - start.k, p.per_channel > 0u));
}

fn next(s: Cursor) -> Cursor {
    var n = s;
    let channel_ends = s.k + 1u == p.positions;
    let filter_ends = channel_ends && s.c + 1u == p.channels;
    n.k = select(s.k + 1u, 0u, channel_ends);
    n.c = select(s.c, select(s.c + 1u, 0u, filter_ends), channel_ends);
    n.base = select(s.base, s.base + p.positions * p.channels, filter_ends);
    n.at = select(s.at + p.channels, n.base + n.c, channel_ends);
    return n;
}
