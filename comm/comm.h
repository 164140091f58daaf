// comm/comm.h - start here: who talks to whom.
//
//   communicator.h   Communicator: collectives over a group of ranks, asynchronous, with a deadline
//   collective.h     Collective: one of them as data
//   traffic.h        how many bytes a collective brings to a rank, and counts of them
//   world.h          World: all ranks of the run, threads or processes; makes groups, ends the run
//   grid_shape.h     GridShape: how many replicas and towers
//   grid.h           ProcessGrid: which rank is which replica and tower, and their groups
//   buckets.h        GradientBuckets: parts of the gradients, reduced as soon as they are written
//   step_watch.h     StepWatch: a wait for a device that ends if its peers never come
//
// Rooms: host/ (ranks that reach each other's memory), mpi/, device/ (NCCL, or by way of the host).
#pragma once

#include "comm/buckets.h"
#include "comm/collective.h"
#include "comm/communicator.h"
#include "comm/grid.h"
#include "comm/grid_shape.h"
#include "comm/step_watch.h"
#include "comm/traffic.h"
#include "comm/world.h"
