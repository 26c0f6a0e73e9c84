//! Hash tables over the labels' rows, and when they are made anew.

use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Recording};
use crate::hash::Rows;
use crate::hash::lsh::{Drift, Hasher, LshTables, Neighbours, Query, QueryWorkspace};
use crate::hash::network::Network;
use crate::hash::optimiser::Mode as Update;
use crate::hash::options::{COUNTS, Mode, Options, Rebuild};
use crate::hash::rows::{Touched, touched_after};
use crate::tensor::Tensor;

/// Ids of a bucket, and the most tables, that are looked at for neighbours.
const CLOSE: usize = 16;
const CLOSE_TABLES: usize = 100;
/// Tables in which two labels must meet to be neighbours.
const MEET: usize = 2;
/// Every so many rows are compared when drift is measured, in so many tables.
const SAMPLED: usize = 4;
const COMPARED: usize = 10;
/// Keys are made anew of touched rows alone if these are fewer than one in so many: others are read in better order.
const LISTED: usize = 2;
/// Steps from a measurement of drift to the rebuild that it may lead to: by then it is known, whatever the host waited for meanwhile.
const LATENCY: u64 = 2;

/// The tables of a training.
pub(super) struct Index {
    hasher: Hasher,
    tables: LshTables,
    workspace: QueryWorkspace,
    /// What finds neighbours, and `[labels, neighbours]`, in the mode that wants them.
    neighbours: Option<(Neighbours, Tensor<u32>)>,
    rebuild: Rebuild,
    /// Steps between looks at the tables, and between new functions.
    every: u64,
    renew: u64,
    /// The step whose rebuild a measurement of drift demands.
    demanded: Option<u64>,
    /// Where rows without a gradient rest, and keep their keys.
    resting: Option<Resting>,
}

/// What it takes to hash only the rows that have moved.
struct Resting {
    /// Room for a list of them.
    moved: Touched,
    /// The step of the optimiser whose rows all keys are of, if they are.
    through: Option<u32>,
}

impl Index {
    pub(super) async fn new_async(gpu: &Gpu, network: &Network, options: &Options) -> Result<Self> {
        let (labels, hidden) = (network.labels(), network.hidden().elements);
        let made = LshTables::new_async(gpu, labels, &options.lsh).await?;
        let neighbours = match options.mode {
            Mode::Neighbours => {
                let list = Tensor::uninit_async(gpu, &[labels, options.neighbours]).await?;
                let tables = options.lsh.tables.min(CLOSE_TABLES);
                let close = Query { tables, bucket: options.lsh.bucket.min(CLOSE), ..Query::all(&options.lsh, 0) };
                Some((Neighbours::new_async(gpu, &made, &close, MEET).await?, list))
            }
            _ => None,
        };
        let steps = |samples: u64| samples / options.batch as u64;
        let rest = options.update == Update::Lazy || !options.rule.moves_alone();
        let resting = if rest {
            Some(Resting { moved: Touched::uninit_async(gpu, labels / LISTED).await?, through: None })
        } else {
            None
        };
        Ok(Self {
            hasher: Hasher::new_async(gpu, &options.lsh, hidden, 0).await?,
            tables: made,
            workspace: QueryWorkspace::new_async(gpu, &options.lsh, options.batch).await?,
            neighbours,
            rebuild: options.rebuild,
            every: steps(options.rebuild.every()).max(1),
            renew: if options.renew == 0 { 0 } else { steps(options.renew).max(1) },
            demanded: None,
            resting,
        })
    }

    /// Whether the tables are made anew before step `step` (from 0 on).
    pub(super) fn due(&self, step: u64) -> bool {
        let period = match self.rebuild {
            Rebuild::Samples(_) => self.every,
            Rebuild::Changed { .. } => self.every * COUNTS,
        };
        step.is_multiple_of(period) || self.demanded == Some(step)
    }

    /// Records new tables of the rows as they are, for the steps from `step` on; once they are made, [`Index::built`] is told. Gives the
    /// number of rows whose keys are made anew: the others have kept theirs, bit for bit.
    pub(super) async fn record_build_async(
        &mut self,
        recording: &mut Recording,
        gpu: &Gpu,
        output: &Rows,
        step: u64,
    ) -> Result<usize> {
        self.demanded = None;
        if let Some(generation) = step.checked_div(self.renew) {
            let generation = u32::try_from(generation).map_err(|_| Error::internal("2^32 generations"))?;
            if generation != self.hasher.functions().generation {
                self.hasher.renew(gpu, generation)?;
                self.forget_keys();
            }
        }
        let hashed = self.record_tables_async(recording, gpu, output).await?;
        if let Some((neighbours, list)) = &self.neighbours {
            let number = u32::try_from(step).map_err(|_| Error::internal("2^32 steps"))?;
            neighbours.record(recording, gpu.caps(), &self.tables, number, list)?;
        }
        Ok(hashed)
    }

    async fn record_tables_async(&mut self, recording: &mut Recording, gpu: &Gpu, output: &Rows) -> Result<usize> {
        let (caps, rows) = (gpu.caps(), &output.weights);
        let since = self.resting.as_mut().and_then(|resting| resting.through.take());
        if let (Some(Resting { moved, .. }), Some(since)) = (&self.resting, since) {
            let ids = touched_after(&output.book_async(gpu).await?, since);
            if ids.len() <= moved.capacity {
                moved.write_ids(gpu, &ids)?;
                self.tables.record_rehash(recording, caps, &self.hasher, rows, moved)?;
                self.tables.record_sort(recording, caps)?;
                return Ok(ids.len());
            }
        }
        self.tables.record_build(recording, caps, &self.hasher, rows)?;
        Ok(output.len())
    }

    /// Takes note that the tables were made, of the rows after step `through` of the optimiser.
    pub(super) fn built(&mut self, through: u32) {
        if let Some(resting) = &mut self.resting {
            resting.through = Some(through);
        }
    }

    /// The next build takes no key for right.
    fn forget_keys(&mut self) {
        if let Some(resting) = &mut self.resting {
            resting.through = None;
        }
    }

    /// Whether a step looks at how far the codes have drifted.
    pub(super) fn measures(&self, step: u64) -> bool {
        matches!(self.rebuild, Rebuild::Changed { .. }) && (step + LATENCY).is_multiple_of(self.every)
    }

    /// Records how far the codes of the labels' rows have drifted since the last build.
    pub(super) fn record_drift(&self, recording: &mut Recording, caps: &Caps, rows: &Tensor) -> Result<Drift> {
        self.tables.record_drift(recording, caps, &self.hasher, rows, COMPARED, SAMPLED)
    }

    /// Has the tables made anew before a step, of rows that are not those of the steps before.
    pub(super) fn demand(&mut self, step: u64) {
        self.demanded = Some(step);
        self.forget_keys();
    }

    /// Takes note of a measurement at a step.
    pub(super) fn drifted(&mut self, step: u64, share: f64) {
        if let Rebuild::Changed { share: most, .. } = self.rebuild
            && share > most
        {
            self.demanded = Some(step + LATENCY);
        }
    }

    /// Neighbours of every label `[labels, n]`, in the mode that wants them.
    pub(super) fn neighbours(&self) -> Option<&Tensor<u32>> {
        self.neighbours.as_ref().map(|(_, list)| list)
    }

    /// Ids that a look-up gives for each sample.
    pub(super) fn candidates(&self) -> usize {
        self.query(0).candidates()
    }

    /// Records the candidates of hidden vectors, the tables in an order of the step.
    pub(super) fn record_query(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        h: &Tensor,
        step: u32,
        out: &Tensor<u32>,
    ) -> Result<()> {
        let query = self.query(step);
        self.tables.record_query(recording, caps, &self.hasher, h, &self.workspace, &query, out)
    }

    fn query(&self, step: u32) -> Query {
        Query { shuffled: true, ..Query::all(self.tables.options(), step) }
    }
}
