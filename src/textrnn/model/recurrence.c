/* The recurrences of rnn, lstm and gru on the processor, forward and backward, for reviews of different lengths.
 *
 * compiled.py compiles this file for the machine it runs on (REAL is float or double) and explains what the arrays mean.
 *
 * A tile is ROWS reviews that walk through their tokens together; their states stay in the cache, and each thread takes
 * tiles of both directions until none is left, so that threads never wait for each other within a review. Each row
 * begins at its own first token (the last one in the backward direction) and stops after its own last: padding is never
 * computed, only zeroed. One block of VL units of all gates is multiplied and activated in registers, which is why the
 * recurrent weights are packed as [block of units][unit of the previous state][gate][VL].
 *
 * Results don't depend on the number of threads: a tile's sums have one order.
 */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define MANY_REGISTERS 1
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define MANY_REGISTERS 0
#else
#define VECTOR_BYTES 16
#define MANY_REGISTERS defined(__aarch64__)
#endif

#define VL ((int)(VECTOR_BYTES / sizeof(real)))
/* Rows of a tile: with the vectors that a product is wide, as many sums as there are registers for. */
#if MANY_REGISTERS
enum { RNN_ROWS = 8, GRU_ROWS = 8, LSTM_ROWS = 6 };
#else
enum { RNN_ROWS = 4, GRU_ROWS = 4, LSTM_ROWS = 2 };
#endif
enum { RNN_WIDTH = 2, GRU_WIDTH = 3, LSTM_WIDTH = 4, GRU_BACK_WIDTH = 2 };
enum { MOST_ROWS = 8, MOST_TILES = 4 };
enum { RNN, LSTM, GRU };

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real loose_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

/* One reading direction of a layer; the same fields in the same order as compiled.py's `_Direction`. */
typedef struct {
  int64_t backward;      /* whether reviews are read from their last token to their first */
  int64_t gates_stride;  /* elements from one token's gates to the next */
  int64_t output_stride; /* the same for output and grad_output */
  real *gates;           /* (time, batch, gates * hidden) input products; activations; at last their gradients */
  real *extra;           /* (time, batch, hidden) gru: recurrent part of n, at last its gradient; lstm: cell state c */
  real *output;          /* (time, batch, hidden) states h, 0 after a review's last token */
  const real *grad_output;
  const real *packed;    /* recurrent weights, packed for the pass at hand */
  const real *bias;      /* gru: recurrent bias of n, (hidden,) */
  const real *initial_h; /* (hidden,) or null: zeros */
  const real *initial_c;
  real *grad_initial_h;  /* (batch, hidden) */
  real *grad_initial_c;
} direction_t;

typedef struct {
  int64_t cell, time, batch, hidden, directions, threads;
  int64_t keep;           /* whether the forward pass keeps what the backward pass needs */
  const int64_t *lengths; /* (batch,), each from 1 to time */
  const int64_t *order;   /* (batch,) rows by falling length: rows of a tile end at about the same time */
  direction_t *each;
} problem_t;

typedef struct {
  const problem_t *problem;
  int64_t rows, tiles, tasks, next; /* rows of a tile, tiles of a task, tasks of a direction, the next task to take */
  int backward_pass, failed;
} work_t;

/* ---- vectors ---------------------------------------------------------------------------------------------------- */

INLINE vec load(const real *p, int n) {
  if (n == VL) return *(const loose_vec *)p;
  vec v = {0};
  memcpy(&v, p, n * sizeof(real));
  return v;
}

INLINE void store(real *p, vec v, int n) {
  if (n == VL)
    *(loose_vec *)p = v;
  else
    memcpy(p, &v, n * sizeof(real));
}

INLINE vec splat(real x) { return x - (vec){0}; }

#define IS_FLOAT (sizeof(real) == sizeof(float))

typedef float fvec __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t ivec __attribute__((vector_size(VECTOR_BYTES)));

INLINE fvec choose(ivec mask, fvec yes, fvec no) { return (fvec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

/* exp by 2^n times a polynomial of degree 6, relative error 1e-7; the constants are those of Cephes' expf. */
INLINE fvec exp_float(fvec x) {
  x = choose(x > 88.0f, (fvec){0} + 88.0f, x); /* NaN stays NaN: comparisons with it are false */
  x = choose(x < -87.0f, (fvec){0} - 87.0f, x);
  fvec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest integer */
  fvec f = x - n * 0.693359375f + n * 2.12194440e-4f;
  fvec p = f * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * (f * f) + f + 1.0f;
  ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
  return p * (fvec)power;
}

/* tanh: odd polynomial near 0 (Cephes' tanhf), where 1 - 2 / (exp(2x) + 1) would lose digits. */
INLINE fvec tanh_float(fvec x) {
  fvec z = x * x;
  fvec p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  fvec near = x + x * z * p, far = 1.0f - 2.0f / (exp_float(2.0f * x) + 1.0f);
  return choose(z < 0.390625f, near, far);
}

INLINE vec sigmoid_v(vec x) {
  if (IS_FLOAT) return (vec)(1.0f / (1.0f + exp_float(-(fvec)x)));
  for (int i = 0; i < VL; i++) x[i] = 1 / (1 + exp(-x[i]));
  return x;
}

INLINE vec tanh_v(vec x) {
  if (IS_FLOAT) return (vec)tanh_float((fvec)x);
  for (int i = 0; i < VL; i++) x[i] = tanh(x[i]);
  return x;
}

/* sum[r][w] += state (rows, blocks * VL), kept as [block][row][VL], times packed weights [blocks * VL][width][VL]. */
INLINE void multiply(vec *sum, const real *packed, const real *state, int64_t blocks, const int rows, const int width) {
  for (int64_t b = 0; b < blocks; b++, state += rows * VL)
    for (int k = 0; k < VL; k++, packed += width * VL) {
      vec weight[4];
      UNROLL for (int w = 0; w < width; w++) weight[w] = *(const vec *)(packed + w * VL);
      UNROLL for (int r = 0; r < rows; r++) {
        vec s = splat(state[r * VL + k]);
        UNROLL for (int w = 0; w < width; w++) sum[r * width + w] += s * weight[w];
      }
    }
}

/* ---- one tile --------------------------------------------------------------------------------------------------- */

typedef struct {
  const problem_t *problem;
  const direction_t *d;
  int64_t blocks;             /* blocks of units, the last one perhaps not full */
  int64_t row[MOST_ROWS];     /* its reviews; -1: none, the batch is no multiple of the tile */
  int64_t length[MOST_ROWS];
  real *state, *next, *carry; /* [block][row][VL]: h and its successor, or dh; c, or dc */
  real *grads;                /* [gate][block][row][VL] */
  real *nowhere;              /* what rows that have ended read (zeros) and write */
  real *gates[MOST_ROWS], *extra[MOST_ROWS], *before[MOST_ROWS];
  real *output[MOST_ROWS];
  const real *grad_output[MOST_ROWS], *previous[MOST_ROWS];
} tile_t;

/* Points at the rows of step `s`: the s-th token that each review reads. */
INLINE void seek(tile_t *t, int64_t s, const int rows) {
  const problem_t *p = t->problem;
  const direction_t *d = t->d;
  for (int r = 0; r < rows; r++) {
    if (s >= t->length[r]) {
      t->gates[r] = t->extra[r] = t->before[r] = t->output[r] = t->nowhere;
      t->grad_output[r] = t->previous[r] = t->nowhere;
      continue;
    }
    int64_t time = d->backward ? t->length[r] - 1 - s : s, step = d->backward ? p->batch : -p->batch;
    int64_t token = time * p->batch + t->row[r];
    t->gates[r] = d->gates + token * d->gates_stride;
    t->output[r] = d->output + token * d->output_stride;
    if (d->extra) t->extra[r] = d->extra + token * p->hidden;
    if (d->grad_output) t->grad_output[r] = d->grad_output + token * d->output_stride;
    t->previous[r] = s ? d->output + (token + step) * d->output_stride : d->initial_h ? d->initial_h : t->nowhere;
    if (d->extra)
      t->before[r] = s ? d->extra + (token + step) * p->hidden : d->initial_c ? (real *)d->initial_c : t->nowhere;
  }
}

INLINE int units(const tile_t *t, int64_t block) {
  int64_t left = t->problem->hidden - block * VL;
  return left < VL ? (int)left : VL;
}

INLINE void rnn_forward(tile_t *t, int64_t block, const int rows) {
  const real *packed = t->d->packed + block * t->blocks * VL * VL;
  int n[2] = {units(t, block), block + 1 < t->blocks ? units(t, block + 1) : 0};
  vec sum[MOST_ROWS * RNN_WIDTH];
  UNROLL for (int r = 0; r < rows; r++)
    UNROLL for (int w = 0; w < RNN_WIDTH; w++)
      sum[r * RNN_WIDTH + w] = n[w] ? load(t->gates[r] + (block + w) * VL, n[w]) : (vec){0};
  multiply(sum, packed, t->state, t->blocks, rows, RNN_WIDTH);
  UNROLL for (int r = 0; r < rows; r++)
    UNROLL for (int w = 0; w < RNN_WIDTH; w++) {
      if (!n[w]) continue;
      vec h = tanh_v(sum[r * RNN_WIDTH + w]);
      *(vec *)(t->next + ((block + w) * rows + r) * VL) = h;
      store(t->output[r] + (block + w) * VL, h, n[w]);
    }
}

INLINE void gru_forward(tile_t *t, int64_t block, const int rows) {
  const int64_t hidden = t->problem->hidden, at = block * VL;
  const int n = units(t, block), keep = (int)t->problem->keep;
  vec sum[MOST_ROWS * GRU_WIDTH], bias = load(t->d->bias + at, n);
  UNROLL for (int r = 0; r < rows; r++) {
    sum[r * 3] = load(t->gates[r] + at, n);
    sum[r * 3 + 1] = load(t->gates[r] + hidden + at, n);
    sum[r * 3 + 2] = bias;
  }
  multiply(sum, t->d->packed + block * t->blocks * VL * 3 * VL, t->state, t->blocks, rows, GRU_WIDTH);
  UNROLL for (int r = 0; r < rows; r++) {
    real *gates = t->gates[r];
    vec reset = sigmoid_v(sum[r * 3]), z = sigmoid_v(sum[r * 3 + 1]), recurrent = sum[r * 3 + 2];
    vec candidate = tanh_v(load(gates + 2 * hidden + at, n) + reset * recurrent);
    vec h = candidate + z * (*(vec *)(t->state + (block * rows + r) * VL) - candidate);
    *(vec *)(t->next + (block * rows + r) * VL) = h;
    store(t->output[r] + at, h, n);
    if (keep) {
      store(gates + at, reset, n);
      store(gates + hidden + at, z, n);
      store(gates + 2 * hidden + at, candidate, n);
      store(t->extra[r] + at, recurrent, n);
    }
  }
}

INLINE void lstm_forward(tile_t *t, int64_t block, const int rows) {
  const int64_t hidden = t->problem->hidden, at = block * VL;
  const int n = units(t, block), keep = (int)t->problem->keep;
  vec sum[MOST_ROWS * LSTM_WIDTH];
  UNROLL for (int r = 0; r < rows; r++)
    UNROLL for (int g = 0; g < 4; g++) sum[r * 4 + g] = load(t->gates[r] + g * hidden + at, n);
  multiply(sum, t->d->packed + block * t->blocks * VL * 4 * VL, t->state, t->blocks, rows, LSTM_WIDTH);
  UNROLL for (int r = 0; r < rows; r++) {
    vec i = sigmoid_v(sum[r * 4]), f = sigmoid_v(sum[r * 4 + 1]);
    vec g = tanh_v(sum[r * 4 + 2]), o = sigmoid_v(sum[r * 4 + 3]);
    vec *carry = (vec *)(t->carry + (block * rows + r) * VL), c = f * *carry + i * g, h = o * tanh_v(c);
    *carry = c;
    *(vec *)(t->next + (block * rows + r) * VL) = h;
    store(t->output[r] + at, h, n);
    if (keep) {
      vec act[4] = {i, f, g, o};
      UNROLL for (int k = 0; k < 4; k++) store(t->gates[r] + k * hidden + at, act[k], n);
      store(t->extra[r] + at, c, n);
    }
  }
}

/* Gradients of a block's gates before activation, from dh: to `gates` for the input, to `grads` for the state. */
INLINE void rnn_backward(tile_t *t, int64_t block, int r, vec *dh, const int rows) {
  const int64_t at = block * VL;
  const int n = units(t, block);
  vec h = load(t->output[r] + at, n), da = *dh * (1 - h * h);
  store(t->gates[r] + at, da, n);
  *(vec *)(t->grads + (block * rows + r) * VL) = da;
  *dh = (vec){0};
}

INLINE void gru_backward(tile_t *t, int64_t block, int r, vec *dh, const int rows) {
  const int64_t hidden = t->problem->hidden, at = block * VL;
  const int n = units(t, block);
  real *gates = t->gates[r], *grads = t->grads + (block * rows + r) * VL;
  const int64_t gate = t->blocks * rows * VL;
  vec reset = load(gates + at, n), z = load(gates + hidden + at, n), candidate = load(gates + 2 * hidden + at, n);
  vec recurrent = load(t->extra[r] + at, n), h = load(t->previous[r] + at, n);
  vec dn = *dh * (1 - z) * (1 - candidate * candidate), dz = *dh * (h - candidate) * z * (1 - z);
  vec dr = dn * recurrent * reset * (1 - reset), drecurrent = dn * reset;
  store(gates + at, dr, n);
  store(gates + hidden + at, dz, n);
  store(gates + 2 * hidden + at, dn, n);
  store(t->extra[r] + at, drecurrent, n);
  *(vec *)grads = dr;
  *(vec *)(grads + gate) = dz;
  *(vec *)(grads + 2 * gate) = drecurrent;
  *dh *= z;
}

INLINE void lstm_backward(tile_t *t, int64_t block, int r, vec *dh, const int rows) {
  const int64_t hidden = t->problem->hidden, at = block * VL, gate = t->blocks * rows * VL;
  const int n = units(t, block);
  real *gates = t->gates[r], *grads = t->grads + (block * rows + r) * VL;
  vec i = load(gates + at, n), f = load(gates + hidden + at, n);
  vec g = load(gates + 2 * hidden + at, n), o = load(gates + 3 * hidden + at, n);
  vec c = tanh_v(load(t->extra[r] + at, n)), *carry = (vec *)(t->carry + (block * rows + r) * VL);
  vec dc = *carry + *dh * o * (1 - c * c);
  vec da[4] = {dc * g * i * (1 - i), dc * load(t->before[r] + at, n) * f * (1 - f), dc * i * (1 - g * g),
               *dh * c * o * (1 - o)};
  UNROLL for (int k = 0; k < 4; k++) {
    store(gates + k * hidden + at, da[k], n);
    *(vec *)(grads + k * gate) = da[k];
  }
  *carry = dc * f;
  *dh = (vec){0};
}

INLINE void step_forward(tile_t *t, int tiles, int64_t s, const int cell, const int rows) {
  for (int i = 0; i < tiles; i++) seek(t + i, s, rows);
  for (int64_t block = 0; block < t->blocks; block += cell == RNN ? RNN_WIDTH : 1)
    for (int i = 0; i < tiles; i++) { /* a block's weights serve all tiles of the task while they are in the cache */
      if (s >= t[i].length[0]) continue;
      if (cell == RNN) rnn_forward(t + i, block, rows);
      if (cell == GRU) gru_forward(t + i, block, rows);
      if (cell == LSTM) lstm_forward(t + i, block, rows);
    }
  for (int i = 0; i < tiles; i++) {
    real *swap = t[i].state;
    t[i].state = t[i].next;
    t[i].next = swap;
  }
}

INLINE void step_backward(tile_t *t, int tiles, int64_t s, const int cell, const int rows, const int width) {
  const int gates = cell == RNN ? 1 : cell == GRU ? 3 : 4;
  for (int i = 0; i < tiles; i++) {
    if (s >= t[i].length[0]) continue;
    seek(t + i, s, rows);
    for (int64_t block = 0; block < t->blocks; block++)
      for (int r = 0; r < rows; r++) {
        vec *dh = (vec *)(t[i].state + (block * rows + r) * VL);
        *dh += load(t[i].grad_output[r] + block * VL, units(t, block));
        if (cell == RNN) rnn_backward(t + i, block, r, dh, rows);
        if (cell == GRU) gru_backward(t + i, block, r, dh, rows);
        if (cell == LSTM) lstm_backward(t + i, block, r, dh, rows);
      }
  }
  const int64_t depth = gates * t->blocks;
  for (int64_t block = 0; block < t->blocks; block += width)
    for (int i = 0; i < tiles; i++) {
      if (s >= t[i].length[0]) continue;
      vec sum[MOST_ROWS * 4], *dh = (vec *)t[i].state;
      UNROLL for (int r = 0; r < rows; r++) UNROLL for (int w = 0; w < width; w++)
        sum[r * width + w] = dh[(block + w) * rows + r];
      multiply(sum, t->d->packed + block * depth * VL * VL, t[i].grads, depth, rows, width);
      UNROLL for (int r = 0; r < rows; r++) UNROLL for (int w = 0; w < width; w++)
        dh[(block + w) * rows + r] = sum[r * width + w];
    }
}

/* ---- all tiles -------------------------------------------------------------------------------------------------- */

static void clear_padding(const tile_t *t, int rows, int backward_pass, int gates) {
  const problem_t *p = t->problem;
  const direction_t *d = t->d;
  for (int r = 0; r < rows; r++)
    for (int64_t time = t->length[r]; t->row[r] >= 0 && time < p->time; time++) {
      int64_t token = time * p->batch + t->row[r];
      if (backward_pass) {
        memset(d->gates + token * d->gates_stride, 0, gates * p->hidden * sizeof(real));
        if (p->cell == GRU) memset(d->extra + token * p->hidden, 0, p->hidden * sizeof(real));
      } else {
        memset(d->output + token * d->output_stride, 0, p->hidden * sizeof(real));
      }
    }
}

/* The state before the first token, or zeros as the gradient that comes from behind the last one. */
static void begin(tile_t *t, int rows, int backward_pass) {
  const direction_t *d = t->d;
  for (int64_t unit = 0; !backward_pass && unit < t->problem->hidden; unit++)
    for (int r = 0; r < rows; r++) {
      int64_t at = (unit / VL * rows + r) * VL + unit % VL;
      if (d->initial_h) t->state[at] = d->initial_h[unit];
      if (d->initial_c) t->carry[at] = d->initial_c[unit];
    }
}

static void end(const tile_t *t, int rows) {
  const direction_t *d = t->d;
  for (int r = 0; r < rows; r++)
    for (int64_t unit = 0; t->row[r] >= 0 && unit < t->problem->hidden; unit++) {
      int64_t at = (unit / VL * rows + r) * VL + unit % VL, to = t->row[r] * t->problem->hidden + unit;
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
    t->state = base, t->next = base + plane, t->carry = base + 2 * plane, t->grads = base + 3 * plane;
    t->nowhere = base + 3 * plane + gates * blocks * rows * VL;
    memset(base, 0, size / MOST_TILES * sizeof(real));
    for (int r = 0; r < rows; r++) {
      int64_t place = first + count * rows + r;
      t->row[r] = place < p->batch ? p->order[place] : -1;
      t->length[r] = place < p->batch ? p->lengths[t->row[r]] : 0;
    }
    begin(t, rows, work->backward_pass);
  }
  const int64_t steps = tiles[0].length[0]; /* the longest review: rows come by falling length */
  if (work->backward_pass)
    for (int64_t s = steps - 1; s >= 0; s--) step_backward(tiles, count, s, cell, rows, width);
  else
    for (int64_t s = 0; s < steps; s++) step_forward(tiles, count, s, cell, rows);
  for (int i = 0; i < count; i++) {
    clear_padding(tiles + i, rows, work->backward_pass, gates);
    if (work->backward_pass) end(tiles + i, rows);
  }
}

static void *run_tasks(void *argument) {
  work_t *work = argument;
  const problem_t *p = work->problem;
  const int64_t blocks = (p->hidden + VL - 1) / VL, most_gates = 4;
  /* A tile: three states, the gates' gradients, and a row of gates for reviews that have ended. */
  int64_t size = ((3 * (blocks + 3) + most_gates * blocks) * MOST_ROWS * VL + most_gates * blocks * VL) * MOST_TILES;
  void *memory;
  if (posix_memalign(&memory, 64, size * sizeof(real))) {
    work->failed = 1;
    return 0;
  }
  for (;;) {
    int64_t task = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
    if (task >= work->tasks * p->directions) break;
    if (p->cell == RNN) run_task(work, task, memory, size, RNN, RNN_ROWS, RNN_WIDTH);
    if (p->cell == GRU) run_task(work, task, memory, size, GRU, GRU_ROWS, GRU_BACK_WIDTH);
    if (p->cell == LSTM) run_task(work, task, memory, size, LSTM, LSTM_ROWS, LSTM_WIDTH);
  }
  free(memory);
  return 0;
}

/* Vectors that the packed weights are wide: [block of `width` vectors][depth][width][VL]. */
int64_t vector_length(void) { return VL; }
int64_t forward_width(int64_t cell) { return cell == RNN ? RNN_WIDTH : cell == GRU ? GRU_WIDTH : LSTM_WIDTH; }
int64_t backward_width(int64_t cell) { return cell == RNN ? RNN_WIDTH : cell == GRU ? GRU_BACK_WIDTH : LSTM_WIDTH; }

/* Runs one pass over all tiles; 0, or 1 where there was no memory. */
int run_pass(const problem_t *p, int backward_pass) {
  work_t work = {.problem = p, .backward_pass = backward_pass};
  work.rows = p->cell == RNN ? RNN_ROWS : p->cell == GRU ? GRU_ROWS : LSTM_ROWS;
  int64_t tiles = (p->batch + work.rows - 1) / work.rows, threads = p->threads;
  work.tiles = 16 / work.rows < MOST_TILES ? 16 / work.rows : MOST_TILES;
  /* Fewer tiles a task where threads would be left without one. */
  while (work.tiles > 1 && (tiles + work.tiles - 1) / work.tiles * p->directions < 2 * threads) work.tiles--;
  work.tasks = (tiles + work.tiles - 1) / work.tiles;
  if (threads > work.tasks * p->directions) threads = work.tasks * p->directions;
  pthread_t others[threads];
  int64_t started = 0;
  while (started < threads - 1 && !pthread_create(others + started, 0, run_tasks, &work)) started++;
  run_tasks(&work);
  for (int64_t i = 0; i < started; i++) pthread_join(others[i], 0);
  return work.failed && work.next < work.tasks * p->directions ? 1 : work.failed;
}
