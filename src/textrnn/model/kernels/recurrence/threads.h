/* Threads for one call, not a pool: its idle threads would hold a core that torch's threads need. */
#pragma once
#include <pthread.h>
#include <stdint.h>

/* Runs `run(work)` on this many threads, including this one; if one can't be started, the others do its share. */
static void run_on_threads(int64_t threads, void *(*run)(void *), void *work) {
  if (threads < 1) threads = 1;
  pthread_t others[threads];
  int64_t started = 0;
  while (started < threads - 1 && !pthread_create(others + started, 0, run, work)) started++;
  run(work);
  for (int64_t i = 0; i < started; i++) pthread_join(others[i], 0);
}
