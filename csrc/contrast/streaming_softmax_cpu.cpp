// The streaming softmax on the CPU: work split and merging. The kernels are in streaming_softmax_cpu.inl.
#include "contrast/streaming_softmax_cpu.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "core/simd_target.h"

namespace motionops {
namespace {

// Columns in a block: its logits (24 kB with 64 float rows) stay in the first cache, the columns themselves in the second.
constexpr int64_t kBlockColumns = 96;
// Probabilities that are added up before their sum joins the running one, with its rounding carried along.
constexpr int64_t kAddedAtOnce = 8;
// Bytes of one packed feature of a panel: 64 float or 32 double rows.
constexpr int64_t kPanelBytes = 256;
// Bytes of probabilities that a thread keeps for the expected rows: panels up to the first figure, one panel up to the
// second, which has room for 16384 columns and a batch.
constexpr int64_t kKeptBytes = 2 << 20;
constexpr int64_t kLargestKeptPanel = 5 << 20;

template <typename T>
constexpr int64_t kPanelRows = kPanelBytes / static_cast<int64_t>(sizeof(T));
// Elements in a vector of the widest target.
template <typename T>
constexpr int64_t kWidestVector = 64 / static_cast<int64_t>(sizeof(T));

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

// What one work item knows of its rows.
template <typename T>
struct SoftmaxState {
  explicit SoftmaxState(int64_t features)
      : maximum(kPanelRows<T>),
        sum(kPanelRows<T>),
        own_logit(kPanelRows<T>),
        rank(kPanelRows<T>),
        expected(features * kPanelRows<T>) {}
  int64_t padded = 0;      // stride of `expected`
  std::vector<T> maximum;  // −infinity where nothing counted
  std::vector<T> sum;      // Σ e^{logit − maximum}
  std::vector<T> own_logit;
  std::vector<int32_t> rank;
  std::vector<T> expected;  // [D][padded] Σ e^{logit − maximum} column
};

template <typename T>
struct PanelScratch {
  explicit PanelScratch(int64_t dim)
      : packed(dim * kPanelRows<T>),
        logits(kBlockColumns * kPanelRows<T>),
        widened(kBlockColumns * dim),
        threshold(kPanelRows<T>),
        count(kPanelRows<T>),
        lost(kPanelRows<T>),
        factor(kPanelRows<T>) {}
  std::vector<T> packed;     // [D][rows] the rows
  std::vector<T> logits;     // [columns][rows]
  std::vector<T> widened;    // [columns][D] columns that do not lie in memory as T
  std::vector<T> threshold;  // [rows] own logit
  std::vector<T> count;      // [rows] ranks of one block
  std::vector<T> lost;       // [rows] rounding of the sums so far
  std::vector<T> factor;     // [rows] rescaling of one block
};

// What one panel of rows leaves for the expected rows. Megabytes that are written before they are read, and so not cleared.
template <typename T>
struct KeptPanel {
  KeptPanel(int64_t columns, int64_t dim)
      : row_stride(divide_up(dim, kWidestVector<T>) * kWidestVector<T>),
        probability(std::make_unique_for_overwrite<T[]>(columns * kPanelRows<T>)),
        maximum(std::make_unique_for_overwrite<T[]>(divide_up(columns, kBlockColumns) * kPanelRows<T>)),
        row(std::make_unique_for_overwrite<T[]>(kPanelRows<T> * row_stride)) {}
  int64_t row_stride;                // D, and 0s up to whole vectors of every target
  int64_t rows = 0;                  // of the panel
  int64_t padded = 0;                // stride of `probability`
  std::unique_ptr<T[]> probability;  // [columns][padded] e^{logit − maximum}
  std::unique_ptr<T[]> maximum;      // [blocks][panel rows] what it was when the block was folded
  std::unique_ptr<T[]> row;          // [rows][row_stride] weight / sum · row
};

#define MOTIONOPS_SIMD_FILE "contrast/streaming_softmax_cpu.inl"
#include "core/simd_targets.inl"

// The states of all column ranges of one panel give its rows' results.
template <typename T>
void merge_panel(const StreamingSoftmax<T>& problem, int64_t row_begin, int64_t rows,
                 std::span<const SoftmaxState<T>* const> states) {
  std::vector<T> factors(states.size());
  for (int64_t r = 0; r < rows; ++r) {
    T maximum = states[0]->maximum[r];
    for (const SoftmaxState<T>* state : states) {
      if (state->maximum[r] > maximum) maximum = state->maximum[r];
    }
    const T base = maximum == -std::numeric_limits<T>::infinity() ? T(0) : maximum;
    T sum = 0;
    int32_t rank = 0;
    for (size_t s = 0; s < states.size(); ++s) {
      factors[s] = std::exp(states[s]->maximum[r] - base);
      sum += states[s]->sum[r] * factors[s];
      rank += states[s]->rank[r];
    }
    problem.maximum[row_begin + r] = base;
    problem.log_sum[row_begin + r] = std::log(sum);
    if (problem.own_logit != nullptr) problem.own_logit[row_begin + r] = states[0]->own_logit[r];
    if (problem.rank != nullptr) problem.rank[row_begin + r] = rank;
    if (problem.expected == nullptr) continue;
    T* expected = problem.expected + (row_begin + r) * problem.dim;
    for (int64_t d = 0; d < problem.dim; ++d) {
      T total = 0;
      for (size_t s = 0; s < states.size(); ++s) {
        total += states[s]->expected[d * states[s]->padded + r] * factors[s];
      }
      expected[d] = total / sum;
    }
  }
}

// Calls work(next_item) once on every thread; next_item() gives items 0, 1, … to whoever asks first, so that a thread that
// the system delays holds nobody up. What an item computes does not depend on the thread.
template <typename Work>
void share_out(int64_t items, const Parallel& parallel, Work&& work) {
  std::atomic<int64_t> next{0};
  auto next_item = [&next] { return next.fetch_add(1, std::memory_order_relaxed); };
  parallel.run(0, std::min<int64_t>(items, parallel.threads()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) work(next_item);
  });
}

// The forward pass where the expected rows are wanted and `at_once` panels can be kept: panel by panel, then all of them
// column by column, each added up by one thread in the order of the panels.
template <typename T, typename RunItem, typename Merge>
void softmax_with_kept_panels(const StreamingSoftmax<T>& problem, int64_t panels, int64_t columns, int64_t at_once,
                              const Parallel& parallel, const RunItem& run_item, const Merge& merge) {
  std::vector<KeptPanel<T>> kept;
  for (int64_t panel = 0; panel < std::min(panels, at_once); ++panel) kept.emplace_back(columns, problem.dim);
  for (int64_t first = 0; first < panels; first += at_once) {
    const std::span<KeptPanel<T>> group = std::span(kept).first(std::min(panels - first, at_once));
    share_out(std::ssize(group), parallel, [&](auto& next_item) {
      PanelScratch<T> scratch(problem.dim);
      SoftmaxState<T> state(problem.dim);
      const SoftmaxState<T>* const only = &state;
      for (int64_t item = next_item(); item < std::ssize(group); item = next_item()) {
        run_item(first + item, state, scratch, &group[item]);
        merge(first + item, {&only, 1});
      }
    });
    const int64_t blocks = divide_up(columns, kBlockColumns);
    share_out(blocks, parallel, [&](auto& next_item) {
      std::vector<T> sum(kBlockColumns * kept[0].row_stride);
      for (int64_t item = next_item(); item < blocks; item = next_item()) {
        const int64_t begin = item * kBlockColumns;
        MOTIONOPS_SIMD_CALL(
            expected_row_item<T>(problem, group, begin, std::min(kBlockColumns, columns - begin), sum.data()));
      }
    });
  }
}

// The expected rows by a transposed pass, where the probabilities are too many to keep.
template <typename T>
void expected_rows_again(const StreamingSoftmax<T>& problem, const Parallel& parallel) {
  const int64_t rows = problem.rows.count;
  std::vector<T> log_sum_exp(rows), weight(rows, T(1));
  for (int64_t row = 0; row < rows; ++row) log_sum_exp[row] = problem.maximum[row] + problem.log_sum[row];
  if (problem.row_weight != nullptr) std::copy_n(problem.row_weight, rows, weight.data());
  StreamingGradient<T> again;
  again.rows = problem.columns[0];
  again.columns = problem.rows;
  again.dim = problem.dim;
  again.scale = problem.scale;
  again.policy = problem.policy;
  again.log_sum_exp = log_sum_exp.data();
  again.weight = weight.data();
  again.sign = 1 / problem.scale;  // the derivative of the logit is not wanted here
  again.gradient = problem.expected_row;
  streaming_gradient(again, parallel);
}

}  // namespace

template <typename T>
const T* feature_row(const FeatureRows& rows, int64_t row, int64_t dim, T* scratch) {
  return baseline::load_rows(rows, row, 1, dim, scratch);
}

template <typename T>
void streaming_softmax(const StreamingSoftmax<T>& problem, const Parallel& parallel) {
  const int64_t rows = problem.rows.count;
  int64_t columns = 0;
  for (const FeatureRows& segment : problem.columns) columns += segment.count;
  if (problem.expected_row != nullptr) std::fill_n(problem.expected_row, columns * problem.dim, T(0));
  if (rows == 0) return;
  const int64_t panels = divide_up(rows, kPanelRows<T>);
  // Enough items to keep the threads level; not more, since every item holds an expected column of its own.
  const int64_t items_wanted = parallel.threads() > 1 ? 4 * parallel.threads() : 1;
  const int64_t blocks = std::max<int64_t>(1, divide_up(columns, kBlockColumns));
  const int64_t ranges = std::min(divide_up(items_wanted, panels), blocks);
  const int64_t range_columns = divide_up(blocks, ranges) * kBlockColumns;
  // The own column is packed into the space of the expected column even where that is not asked for.
  const int64_t features = problem.expected != nullptr || problem.own.data != nullptr ? problem.dim : 0;
  auto run_item = [&](int64_t item, SoftmaxState<T>& state, PanelScratch<T>& scratch, KeptPanel<T>* kept) {
    const int64_t row_begin = item % panels * kPanelRows<T>;
    const int64_t column_begin = std::min(item / panels * range_columns, columns);
    MOTIONOPS_SIMD_CALL(softmax_item(problem, row_begin, std::min(kPanelRows<T>, rows - row_begin), column_begin,
                                     std::min(column_begin + range_columns, columns), state, scratch, kept));
  };
  auto merge = [&](int64_t panel, std::span<const SoftmaxState<T>* const> states) {
    const int64_t row_begin = panel * kPanelRows<T>;
    merge_panel<T>(problem, row_begin, std::min(kPanelRows<T>, rows - row_begin), states);
  };

  const int64_t panel_bytes = std::max(columns * kPanelBytes, kPanelBytes);
  const int64_t panels_kept =
      std::max<int64_t>(kKeptBytes / panel_bytes, panel_bytes <= kLargestKeptPanel) * parallel.threads();
  if (problem.expected_row != nullptr && ranges == 1 && panels_kept > 0) {
    return softmax_with_kept_panels(problem, panels, columns, panels_kept, parallel, run_item, merge);
  }
  if (ranges == 1) {  // many rows: a thread needs one state, not one for every panel
    share_out(panels, parallel, [&](auto& next_item) {
      PanelScratch<T> scratch(problem.dim);
      SoftmaxState<T> state(features);
      const SoftmaxState<T>* const only = &state;
      for (int64_t panel = next_item(); panel < panels; panel = next_item()) {
        run_item(panel, state, scratch, nullptr);
        merge(panel, {&only, 1});
      }
    });
  } else {
    // Item = range · panels + panel: neighbouring items read the same columns.
    std::vector<SoftmaxState<T>> states(ranges * panels, SoftmaxState<T>(features));
    share_out(ranges * panels, parallel, [&](auto& next_item) {
      PanelScratch<T> scratch(problem.dim);
      for (int64_t item = next_item(); item < ranges * panels; item = next_item()) {
        run_item(item, states[item], scratch, nullptr);
      }
    });
    share_out(panels, parallel, [&](auto& next_item) {
      std::vector<const SoftmaxState<T>*> parts(ranges);
      for (int64_t panel = next_item(); panel < panels; panel = next_item()) {
        for (int64_t range = 0; range < ranges; ++range) parts[range] = &states[range * panels + panel];
        merge(panel, parts);
      }
    });
  }
  if (problem.expected_row != nullptr) expected_rows_again(problem, parallel);
}

template <typename T>
void streaming_gradient(const StreamingGradient<T>& problem, const Parallel& parallel) {
  const int64_t rows = problem.rows.count;
  if (rows == 0 || problem.columns.count == 0) return;
  const int64_t panels = divide_up(rows, kPanelRows<T>);
  share_out(panels, parallel, [&](auto& next_item) {
    PanelScratch<T> scratch(problem.dim);
    std::vector<T> gradient(problem.dim * kPanelRows<T>);
    for (int64_t panel = next_item(); panel < panels; panel = next_item()) {
      const int64_t row_begin = panel * kPanelRows<T>;
      MOTIONOPS_SIMD_CALL(
          gradient_item(problem, row_begin, std::min(kPanelRows<T>, rows - row_begin), scratch, gradient.data()));
    }
  });
}

template const float* feature_row(const FeatureRows&, int64_t, int64_t, float*);
template const double* feature_row(const FeatureRows&, int64_t, int64_t, double*);
template void streaming_softmax<float>(const StreamingSoftmax<float>&, const Parallel&);
template void streaming_softmax<double>(const StreamingSoftmax<double>&, const Parallel&);
template void streaming_gradient<float>(const StreamingGradient<float>&, const Parallel&);
template void streaming_gradient<double>(const StreamingGradient<double>&, const Parallel&);

}  // namespace motionops
