/* The recurrences of rnn, lstm and gru on the processor, forward and backward, for reviews of different lengths.
 *
 * library.py compiles it for the machine that it runs on (REAL is float or double; LOW, with float: bfloat16 where a
 * number is kept for the backward pass or multiplied), passes.py calls it. vectors.h has the arithmetic, steps.h a step
 * of each cell, this file the order in which steps are taken; pooling.h is what comes after.
 *
 * A tile is ROWS reviews that walk through their tokens together; their states stay in the cache, and each thread takes
 * tiles of both directions until none is left, so that threads never wait for each other within a review. Each row
 * begins at its own first token (the last one in the backward direction) and stops after its own last: padding is never
 * computed, only zeroed. One block of VL units of all gates is multiplied and activated in registers, which is why the
 * recurrent weights are packed as [block of units][unit of the previous state][gate][VL].
 *
 * Results don't depend on the number of threads: a tile's sums have one order.
 */
#include <stdlib.h>

#include "pooling.h"
#include "steps.h"
#include "threads.h"

enum { PLANES = LOW ? 5 : 3 }; /* state, next and carry; with LOW also what is multiplied of the first two */
enum { SUMS = 4 };             /* at most: see bias */

typedef struct {
  const problem_t *problem;
  int64_t rows, tiles, tasks, next; /* rows of a tile, tiles of a task, tasks of a direction, the next task to take */
  int backward_pass, failed;
} work_t;

static void clear_padding(const tile_t *t, int rows, int backward_pass, int gates) {
  const problem_t *p = t->problem;
  const direction_t *d = t->d;
  for (int r = 0; r < rows; r++)
    for (int64_t time = t->length[r]; t->row[r] >= 0 && time < p->time; time++) {
      int64_t token = time * p->batch + t->row[r];
      if (backward_pass) {
        memset(d->gates + token * d->gates_stride, 0, gates * p->hidden * sizeof(kept_t));
        if (p->cell == GRU) memset(d->extra + token * p->hidden, 0, p->hidden * sizeof(kept_t));
      } else {
        memset(d->output + token * d->output_stride, 0, p->hidden * sizeof(real));
      }
    }
}

/* The state before the first token, or zeros as the gradient that comes from behind the last one. */
static void begin(tile_t *t, int rows, int backward_pass) {
  const direction_t *d = t->d;
  for (int64_t unit = 0; !backward_pass && unit < t->problem->hidden; unit++)
    for (int r = 0; r < rows && t->row[r] >= 0; r++) {
      int64_t at = (unit / VL * rows + r) * VL + unit % VL, from = t->row[r] * t->problem->hidden + unit;
      if (d->initial_h) t->state[at] = d->initial_h[from];
      if (d->initial_c) t->carry[at] = d->initial_c[from];
    }
  for (int64_t at = 0; LOW && !backward_pass && at < t->blocks * rows * VL; at += VL)
    set_factor(t->factor + at, *(vec *)(t->state + at));
}

static void end(const tile_t *t, int rows, int64_t tile, int sums) {
  const direction_t *d = t->d;
  const int64_t hidden = t->problem->hidden;
  for (int64_t sum = 0; d->grad_bias && sum < sums; sum++)
    memcpy(d->grad_bias + (tile * sums + sum) * hidden, t->sums + sum * t->blocks * VL, hidden * sizeof(real));
  for (int r = 0; r < rows; r++)
    for (int64_t unit = 0; t->row[r] >= 0 && unit < hidden; unit++) {
      int64_t at = (unit / VL * rows + r) * VL + unit % VL, to = t->row[r] * hidden + unit;
      if (d->grad_initial_h) d->grad_initial_h[to] = t->state[at];
      if (d->grad_initial_c) d->grad_initial_c[to] = t->carry[at];
    }
}

INLINE void run_task(work_t *work, int64_t task, real *memory, int64_t size, const int cell, const int rows,
                     const int width) {
  const problem_t *p = work->problem;
  const int gates = cell == RNN ? 1 : cell == GRU ? 3 : 4;
  const direction_t *d = p->each + task / work->tasks;
  const int64_t first = task % work->tasks * work->tiles * rows, blocks = (p->hidden + VL - 1) / VL;
  const int64_t plane = (blocks + 3) * rows * VL; /* a product's last vectors may lie behind the last block */
  tile_t tiles[MOST_TILES];
  int count = 0;
  for (; count < work->tiles && first + count * rows < p->batch; count++) {
    tile_t *t = tiles + count;
    real *base = memory + count * (size / MOST_TILES);
    *t = (tile_t){.problem = p, .d = d, .blocks = blocks};
    t->state = base, t->next = base + plane, t->carry = base + 2 * plane;
    t->factor = (factor_t *)(LOW ? base + 3 * plane : t->state);
    t->next_factor = (factor_t *)(LOW ? base + 4 * plane : t->next);
    t->grads = (factor_t *)(base + PLANES * plane);
    t->sums = base + PLANES * plane + gates * blocks * rows * VL;
    t->nowhere = t->sums + SUMS * blocks * VL;
    memset(base, 0, size / MOST_TILES * sizeof(real));
    for (int r = 0; r < rows; r++) {
      int64_t place = first + count * rows + r;
      t->row[r] = place < p->batch ? p->order[place] : -1;
      t->length[r] = place < p->batch ? p->lengths[t->row[r]] : 0;
    }
    begin(t, rows, work->backward_pass);
  }
  const int64_t steps = tiles[0].length[0]; /* the longest review: rows come by falling length */
  if (rows > 1 && work->backward_pass) /* tiles of one row are the forward pass's alone, see run_pass */
    for (int64_t s = steps - 1; s >= 0; s--) step_backward(tiles, count, s, cell, rows, width);
  else
    for (int64_t s = 0; s < steps; s++) step_forward(tiles, count, s, cell, rows);
  for (int i = 0; i < count; i++) {
    clear_padding(tiles + i, rows, work->backward_pass, gates);
    if (work->backward_pass) end(tiles + i, rows, first / rows + i, cell == RNN ? 1 : SUMS);
  }
}

static void *run_tasks(void *argument) {
  work_t *work = argument;
  const problem_t *p = work->problem;
  const int64_t blocks = (p->hidden + VL - 1) / VL, most_gates = 4;
  /* A tile: its states, the gates' gradients, their sums, and a row of gates for reviews that have ended. */
  int64_t size = (PLANES * (blocks + 3) + most_gates * blocks) * MOST_ROWS + (SUMS + most_gates) * blocks;
  size *= VL * MOST_TILES;
  void *memory;
  if (posix_memalign(&memory, 64, size * sizeof(real))) {
    work->failed = 1;
    return 0;
  }
  for (;;) {
    int64_t task = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
    if (task >= work->tasks * p->directions) break;
    const int one = work->rows == 1;
    if (p->cell == RNN && one) run_task(work, task, memory, size, RNN, 1, RNN_WIDTH);
    if (p->cell == GRU && one) run_task(work, task, memory, size, GRU, 1, GRU_BACK_WIDTH);
    if (p->cell == LSTM && one) run_task(work, task, memory, size, LSTM, 1, LSTM_WIDTH);
    if (p->cell == RNN && !one) run_task(work, task, memory, size, RNN, RNN_ROWS, RNN_WIDTH);
    if (p->cell == GRU && !one) run_task(work, task, memory, size, GRU, GRU_ROWS, GRU_BACK_WIDTH);
    if (p->cell == LSTM && !one) run_task(work, task, memory, size, LSTM, LSTM_ROWS, LSTM_WIDTH);
  }
  free(memory);
  return 0;
}

/* Whether this processor multiplies bfloat16, so that it can run what LOW makes of this file. */
int64_t has_low(void) {
#ifdef __AVX512BF16__
  return 1;
#else
  return 0;
#endif
}

/* Vectors that the packed weights are wide: [block of `width` vectors][depth][width][VL]. */
int64_t vector_length(void) { return VL; }
int64_t tile_rows(int64_t cell) { return cell == RNN ? RNN_ROWS : cell == GRU ? GRU_ROWS : LSTM_ROWS; }
int64_t forward_width(int64_t cell) { return cell == RNN ? RNN_WIDTH : cell == GRU ? GRU_WIDTH : LSTM_WIDTH; }
int64_t backward_width(int64_t cell) { return cell == RNN ? RNN_WIDTH : cell == GRU ? GRU_BACK_WIDTH : LSTM_WIDTH; }

/* Runs one pass over all tiles; 0, or 1 where there was no memory. */
int run_pass(const problem_t *p, int backward_pass) {
  work_t work = {.problem = p, .backward_pass = backward_pass};
  /* A tile's rows are computed whether they hold a review or not: a few reviews are faster in tiles of one row. */
  work.rows = !backward_pass && p->batch <= MOST_TILES ? 1 : tile_rows(p->cell);
  int64_t tiles = (p->batch + work.rows - 1) / work.rows, threads = p->threads;
  work.tiles = 16 / work.rows < MOST_TILES ? 16 / work.rows : MOST_TILES;
  /* Fewer tiles a task where threads would be left without one. */
  while (work.tiles > 1 && (tiles + work.tiles - 1) / work.tiles * p->directions < 2 * threads) work.tiles--;
  work.tasks = (tiles + work.tiles - 1) / work.tiles;
  if (threads > work.tasks * p->directions) threads = work.tasks * p->directions;
  run_on_threads(threads, run_tasks, &work);
  return work.failed && work.next < work.tasks * p->directions ? 1 : work.failed;
}
