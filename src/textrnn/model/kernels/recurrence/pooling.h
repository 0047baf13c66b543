/* Max pooling: at which token each feature of a review is largest. Each state is read once, and no padding. */
#pragma once
#include "threads.h"
#include "vectors.h"

enum { POOL_ROWS = 4, POOL_FEATURES = 256 }; /* of a tile, whose maxima stay in the first cache */
enum { TILES_A_THREAD = 2 };                 /* for less, starting a thread takes longer than what it does */

/* A token's number as wide as a real, so that one vector's comparison chooses both. */
typedef __typeof__(__builtin_choose_expr(IS_FLOAT, (int32_t)0, (int64_t)0)) place_t;

/* The same fields in the same order as pooling.py's `_Pool`. */
typedef struct {
  int64_t batch, features, threads;
  const int64_t *lengths; /* (batch,), each at least 1 */
  const real *states;     /* (time, batch, features) */
  int64_t *where;         /* (batch, features), the first token of those that are largest; NaN is larger than all */
} pool_t;

typedef struct {
  const pool_t *pool;
  int64_t across, tiles, next; /* tiles side by side, all of them, the next one to take */
} pooling_t;

static void find_largest_of_tile(const pool_t *p, int64_t first_row, int64_t first_feature) {
  real best[POOL_ROWS][POOL_FEATURES];
  place_t at[POOL_ROWS][POOL_FEATURES] = {0};
  const int rows = p->batch - first_row < POOL_ROWS ? (int)(p->batch - first_row) : POOL_ROWS;
  const int features = p->features - first_feature < POOL_FEATURES ? (int)(p->features - first_feature) : POOL_FEATURES;
  int64_t steps = 0;
  for (int r = 0; r < rows; r++) {
    for (int f = 0; f < features; f++) best[r][f] = -INFINITY;
    if (p->lengths[first_row + r] > steps) steps = p->lengths[first_row + r];
  }
  for (int64_t s = 0; s < steps; s++)
    for (int r = 0; r < rows; r++) {
      if (s >= p->lengths[first_row + r]) continue;
      const real *x = p->states + (s * p->batch + first_row + r) * p->features + first_feature;
      real *b = best[r];
      place_t *a = at[r];
      for (int f = 0; f < features; f++) {
        const int larger = (x[f] > b[f]) | ((x[f] != x[f]) & (b[f] == b[f]));
        b[f] = larger ? x[f] : b[f];
        a[f] = larger ? (place_t)s : a[f];
      }
    }
  for (int r = 0; r < rows; r++)
    for (int f = 0; f < features; f++) p->where[(first_row + r) * p->features + first_feature + f] = at[r][f];
}

static void *find_largest_of_tiles(void *argument) {
  pooling_t *work = argument;
  for (int64_t tile; (tile = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->tiles;)
    find_largest_of_tile(work->pool, tile / work->across * POOL_ROWS, tile % work->across * POOL_FEATURES);
  return 0;
}

void find_largest(const pool_t *p) {
  pooling_t work = {.pool = p, .across = (p->features + POOL_FEATURES - 1) / POOL_FEATURES};
  work.tiles = (p->batch + POOL_ROWS - 1) / POOL_ROWS * work.across;
  const int64_t worth = work.tiles / TILES_A_THREAD + 1;
  run_on_threads(p->threads < worth ? p->threads : worth, find_largest_of_tiles, &work);
}
