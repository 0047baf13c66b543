/* The cells: one step of a tile, forward and backward. */
#pragma once
#include "vectors.h"

/* Rows of a tile: with the vectors that a product is wide, as many sums as there are registers for. */
#if MANY_REGISTERS
enum { RNN_ROWS = 8, GRU_ROWS = 8, LSTM_ROWS = 6 };
#else
enum { RNN_ROWS = 6, GRU_ROWS = 4, LSTM_ROWS = 3 };
#endif
enum { RNN_WIDTH = 2, GRU_WIDTH = 3, LSTM_WIDTH = 4, GRU_BACK_WIDTH = 2 };
enum { MOST_ROWS = 8, MOST_TILES = 4 };
enum { RNN, LSTM, GRU };

/* One reading direction of a layer; the same fields in the same order as passes.py's `_Direction`. */
typedef struct {
  int64_t backward;      /* whether reviews are read from their last token to their first */
  int64_t gates_stride;  /* elements from one token's gates to the next */
  int64_t output_stride; /* the same for output and grad_output */
  kept_t *gates;         /* (time, batch, gates * hidden) input products; activations; finally their gradients */
  kept_t *extra;         /* (time, batch, hidden) gru: recurrent part of n, finally its gradient; lstm: cell state c */
  real *output;          /* (time, batch, hidden) states h, 0 after a review's last token */
  const real *grad_output;
  const factor_t *packed; /* recurrent weights, packed for this pass */
  const real *bias;      /* (sums, hidden): one for each gate, for a gru another one for recurrent n */
  const real *initial_h; /* (batch, hidden) or null: zeros */
  const real *initial_c;
  const kept_t *kept_c;  /* initial_c as `extra` would keep it */
  real *grad_initial_h;  /* (batch, hidden) */
  real *grad_initial_c;
  real *grad_bias;       /* (tiles, sums, hidden), each tile's part */
} direction_t;

typedef struct {
  int64_t cell, time, batch, hidden, directions, threads;
  int64_t relu;           /* rnn: max(0, x) instead of tanh */
  int64_t keep;           /* whether the forward pass keeps what the backward pass needs */
  const int64_t *lengths; /* (batch,), each from 1 to time */
  const int64_t *order;   /* (batch,) rows by decreasing length: rows of a tile end at about the same time */
  direction_t *each;
} problem_t;

typedef struct {
  const problem_t *problem;
  const direction_t *d;
  int64_t blocks;             /* blocks of units, the last one perhaps not full */
  int64_t row[MOST_ROWS];     /* its reviews; -1: none, the batch is no multiple of the tile */
  int64_t length[MOST_ROWS];
  real *state, *next, *carry; /* [block][row][VL]: h and its successor, or dh; c, or dc */
  factor_t *factor, *next_factor; /* state and next as what is multiplied: the same memory, or with LOW their own */
  factor_t *grads;            /* [gate][block][row][VL] */
  real *sums;                 /* [gate][block][VL]: the gates' gradients, of all rows and tokens */
  real *nowhere;              /* what rows that have ended read (zeros) and write */
  kept_t *gates[MOST_ROWS], *extra[MOST_ROWS];
  const kept_t *before[MOST_ROWS];
  real *output[MOST_ROWS];
  const real *grad_output[MOST_ROWS], *previous[MOST_ROWS];
} tile_t;

/* Points at the rows of step `s`: the s-th token that each review reads. */
INLINE void seek(tile_t *t, int64_t s, const int rows) {
  const problem_t *p = t->problem;
  const direction_t *d = t->d;
  for (int r = 0; r < rows; r++) {
    if (s >= t->length[r]) {
      t->gates[r] = t->extra[r] = (kept_t *)t->nowhere;
      t->before[r] = t->gates[r];
      t->output[r] = t->nowhere;
      t->grad_output[r] = t->previous[r] = t->nowhere;
      continue;
    }
    int64_t time = d->backward ? t->length[r] - 1 - s : s, step = d->backward ? p->batch : -p->batch;
    int64_t token = time * p->batch + t->row[r];
    t->gates[r] = d->gates + token * d->gates_stride;
    t->output[r] = d->output + token * d->output_stride;
    if (d->extra) t->extra[r] = d->extra + token * p->hidden;
    if (d->grad_output) t->grad_output[r] = d->grad_output + token * d->output_stride;
    const int64_t own = t->row[r] * p->hidden;
    t->previous[r] = s ? d->output + (token + step) * d->output_stride : d->initial_h ? d->initial_h + own : t->nowhere;
    if (d->extra)
      t->before[r] = s ? d->extra + (token + step) * p->hidden : d->kept_c ? d->kept_c + own : (kept_t *)t->nowhere;
  }
}

/* Asks the memory for what a block reads at the pass's next step and writes at this one, while a product is computed: the
 * processor doesn't foresee rows that lie far apart. A few at a time, as more would wait for each other. An address
 * behind the last token's is never read. */
INLINE void fetch(const tile_t *t, int64_t block, const int cell, const int rows, const int backward_pass) {
  const problem_t *p = t->problem;
  const int gates = cell == RNN ? 1 : cell == GRU ? 3 : 4;
  const int64_t step = t->d->backward != backward_pass ? -p->batch : p->batch, at = block * VL;
  UNROLL for (int r = 0; r < rows; r++) {
    const uintptr_t next = (uintptr_t)(t->gates[r] + at) + step * t->d->gates_stride * sizeof(kept_t);
    UNROLL for (int g = 0; g < gates; g++) __builtin_prefetch((void *)(next + g * p->hidden * sizeof(kept_t)));
    const uintptr_t states = step * t->d->output_stride * sizeof(real), extra = step * p->hidden * sizeof(kept_t);
    if (backward_pass) {
      __builtin_prefetch((void *)((uintptr_t)(t->grad_output[r] + at) + states));
      if (cell == RNN) __builtin_prefetch((void *)((uintptr_t)(t->output[r] + at) + states));
      if (cell == GRU) __builtin_prefetch((void *)((uintptr_t)(t->previous[r] + at) + states));
      if (cell == GRU) __builtin_prefetch((void *)((uintptr_t)(t->extra[r] + at) + extra));
      if (cell == LSTM) __builtin_prefetch((void *)((uintptr_t)(t->before[r] + at) + extra));
    } else {
      __builtin_prefetch(t->output[r] + at, 1);
      if (cell != RNN && p->keep) __builtin_prefetch(t->extra[r] + at, 1);
    }
  }
}

INLINE int units(const tile_t *t, int64_t block) {
  int64_t left = t->problem->hidden - block * VL;
  return left < VL ? (int)left : VL;
}

INLINE void set_factor(factor_t *to, vec v) { store_kept(to, v, VL); }

INLINE void set_next(tile_t *t, int64_t at, vec h) {
  *(vec *)(t->next + at) = h;
  if (LOW) set_factor(t->next_factor + at, h);
}

INLINE vec bias_of(const tile_t *t, int64_t sum, int64_t at, int n) {
  return load(t->d->bias + sum * t->problem->hidden + at, n);
}

INLINE void add_up(tile_t *t, int64_t sum, int64_t block, vec gradient) {
  *(vec *)(t->sums + (sum * t->blocks + block) * VL) += gradient;
}

INLINE void rnn_forward(tile_t *t, int64_t block, const int rows) {
  const factor_t *packed = t->d->packed + block * t->blocks * VL * VL;
  int n[2] = {units(t, block), block + 1 < t->blocks ? units(t, block + 1) : 0};
  vec sum[MOST_ROWS * RNN_WIDTH], bias[RNN_WIDTH];
  UNROLL for (int w = 0; w < RNN_WIDTH; w++) bias[w] = bias_of(t, 0, (block + w) * VL, n[w]);
  UNROLL for (int r = 0; r < rows; r++)
    UNROLL for (int w = 0; w < RNN_WIDTH; w++)
      sum[r * RNN_WIDTH + w] = n[w] ? bias[w] + load_kept(t->gates[r] + (block + w) * VL, n[w]) : (vec){0};
  UNROLL for (int w = 0; w < RNN_WIDTH; w++) fetch(t, block + w, RNN, rows, 0);
  multiply(sum, packed, t->factor, t->blocks, rows, RNN_WIDTH);
  UNROLL for (int r = 0; r < rows; r++)
    UNROLL for (int w = 0; w < RNN_WIDTH; w++) {
      if (!n[w]) continue;
      vec a = sum[r * RNN_WIDTH + w], h = t->problem->relu ? relu_v(a) : tanh_v(a);
      set_next(t, ((block + w) * rows + r) * VL, h);
      store(t->output[r] + (block + w) * VL, h, n[w]);
    }
}

INLINE void gru_forward(tile_t *t, int64_t block, const int rows) {
  const int64_t hidden = t->problem->hidden, at = block * VL;
  const int n = units(t, block), keep = (int)t->problem->keep;
  vec sum[MOST_ROWS * GRU_WIDTH], bias[4];
  UNROLL for (int k = 0; k < 4; k++) bias[k] = bias_of(t, k, at, n);
  UNROLL for (int r = 0; r < rows; r++) {
    sum[r * 3] = bias[0] + load_kept(t->gates[r] + at, n);
    sum[r * 3 + 1] = bias[1] + load_kept(t->gates[r] + hidden + at, n);
    sum[r * 3 + 2] = bias[3];
  }
  fetch(t, block, GRU, rows, 0);
  multiply(sum, t->d->packed + block * t->blocks * VL * 3 * VL, t->factor, t->blocks, rows, GRU_WIDTH);
  UNROLL for (int r = 0; r < rows; r++) {
    kept_t *gates = t->gates[r];
    vec reset = sigmoid_v(sum[r * 3]), z = sigmoid_v(sum[r * 3 + 1]), recurrent = sum[r * 3 + 2];
    vec candidate = tanh_v(bias[2] + load_kept(gates + 2 * hidden + at, n) + reset * recurrent);
    vec h = candidate + z * (*(vec *)(t->state + (block * rows + r) * VL) - candidate);
    set_next(t, (block * rows + r) * VL, h);
    store(t->output[r] + at, h, n);
    if (keep) {
      store_kept(gates + at, reset, n);
      store_kept(gates + hidden + at, z, n);
      store_kept(gates + 2 * hidden + at, candidate, n);
      store_kept(t->extra[r] + at, recurrent, n);
    }
  }
}

INLINE void lstm_forward(tile_t *t, int64_t block, const int rows) {
  const int64_t hidden = t->problem->hidden, at = block * VL;
  const int n = units(t, block), keep = (int)t->problem->keep;
  vec sum[MOST_ROWS * LSTM_WIDTH], bias[4];
  UNROLL for (int g = 0; g < 4; g++) bias[g] = bias_of(t, g, at, n);
  UNROLL for (int r = 0; r < rows; r++)
    UNROLL for (int g = 0; g < 4; g++) sum[r * 4 + g] = bias[g] + load_kept(t->gates[r] + g * hidden + at, n);
  fetch(t, block, LSTM, rows, 0);
  multiply(sum, t->d->packed + block * t->blocks * VL * 4 * VL, t->factor, t->blocks, rows, LSTM_WIDTH);
  UNROLL for (int r = 0; r < rows; r++) {
    vec i = sigmoid_v(sum[r * 4]), f = sigmoid_v(sum[r * 4 + 1]);
    vec g = tanh_v(sum[r * 4 + 2]), o = sigmoid_v(sum[r * 4 + 3]);
    vec *carry = (vec *)(t->carry + (block * rows + r) * VL), c = f * *carry + i * g, h = o * tanh_v(c);
    *carry = c;
    set_next(t, (block * rows + r) * VL, h);
    store(t->output[r] + at, h, n);
    if (keep) {
      vec act[4] = {i, f, g, o};
      UNROLL for (int k = 0; k < 4; k++) store_kept(t->gates[r] + k * hidden + at, act[k], n);
      store_kept(t->extra[r] + at, c, n);
    }
  }
}

/* Gradients of a block's gates before activation, from dh: to `gates` for the input, to `grads` for the state. */
INLINE void rnn_backward(tile_t *t, int64_t block, int r, vec *dh, const int rows) {
  const int64_t at = block * VL;
  const int n = units(t, block);
  vec h = load(t->output[r] + at, n), da = t->problem->relu ? relu_gradient_v(h, *dh) : *dh * (1 - h * h);
  store_kept(t->gates[r] + at, da, n);
  set_factor(t->grads + (block * rows + r) * VL, da);
  add_up(t, 0, block, da);
  *dh = (vec){0};
}

INLINE void gru_backward(tile_t *t, int64_t block, int r, vec *dh, const int rows) {
  const int64_t hidden = t->problem->hidden, at = block * VL;
  const int n = units(t, block);
  kept_t *gates = t->gates[r];
  factor_t *grads = t->grads + (block * rows + r) * VL;
  const int64_t gate = t->blocks * rows * VL;
  vec reset = load_kept(gates + at, n), z = load_kept(gates + hidden + at, n);
  vec candidate = load_kept(gates + 2 * hidden + at, n), recurrent = load_kept(t->extra[r] + at, n);
  vec h = load(t->previous[r] + at, n);
  vec dn = *dh * (1 - z) * (1 - candidate * candidate), dz = *dh * (h - candidate) * z * (1 - z);
  vec dr = dn * recurrent * reset * (1 - reset), drecurrent = dn * reset;
  store_kept(gates + at, dr, n);
  store_kept(gates + hidden + at, dz, n);
  store_kept(gates + 2 * hidden + at, dn, n);
  store_kept(t->extra[r] + at, drecurrent, n);
  set_factor(grads, dr);
  set_factor(grads + gate, dz);
  set_factor(grads + 2 * gate, drecurrent);
  add_up(t, 0, block, dr), add_up(t, 1, block, dz), add_up(t, 2, block, dn), add_up(t, 3, block, drecurrent);
  *dh *= z;
}

INLINE void lstm_backward(tile_t *t, int64_t block, int r, vec *dh, const int rows) {
  const int64_t hidden = t->problem->hidden, at = block * VL, gate = t->blocks * rows * VL;
  const int n = units(t, block);
  kept_t *gates = t->gates[r];
  factor_t *grads = t->grads + (block * rows + r) * VL;
  vec i = load_kept(gates + at, n), f = load_kept(gates + hidden + at, n);
  vec g = load_kept(gates + 2 * hidden + at, n), o = load_kept(gates + 3 * hidden + at, n);
  vec c = tanh_v(load_kept(t->extra[r] + at, n)), *carry = (vec *)(t->carry + (block * rows + r) * VL);
  vec dc = *carry + *dh * o * (1 - c * c);
  vec da[4] = {dc * g * i * (1 - i), dc * load_kept(t->before[r] + at, n) * f * (1 - f), dc * i * (1 - g * g),
               *dh * c * o * (1 - o)};
  UNROLL for (int k = 0; k < 4; k++) {
    store_kept(gates + k * hidden + at, da[k], n);
    set_factor(grads + k * gate, da[k]);
    add_up(t, k, block, da[k]);
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
    factor_t *swap_factor = t[i].factor;
    t[i].state = t[i].next, t[i].next = swap;
    t[i].factor = t[i].next_factor, t[i].next_factor = swap_factor;
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
      UNROLL for (int w = 0; w < width; w++) fetch(t + i, block + w, cell, rows, 1);
      multiply(sum, t->d->packed + block * depth * VL * VL, t[i].grads, depth, rows, width);
      UNROLL for (int r = 0; r < rows; r++) UNROLL for (int w = 0; w < width; w++)
        dh[(block + w) * rows + r] = sum[r * width + w];
    }
}

