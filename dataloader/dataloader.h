// dataloader/dataloader.h - start here: bytes to batches.
//
//   dataset.h         Dataset: samples with random access, whatever they are stored in
//   left_out.h        LeftOut: the files that are no samples, counted by kind
//   dataset_view.h    SplitByName: a part held out for validation, and other data sets made of one
//   crop_options.h    CropOptions: which part of an image, and its random changes
//   loader.h          Loader: the batches of an epoch, made by a pool of threads
//   bad_samples.h     BadSample: what cannot be decoded, and how much of it is tolerated
//   loader_report.h   LoaderReport: where its time goes
//   statistics.h      DataStatistics: mean image and colours of a data set
//   fingerprint.h     Fingerprint: whether two copies are the same
//   packing.h, measure.h    what the data commands and benches do
//
// Rooms: sources/ and archives/ (what lies where), images/ (decoding), crops/, loading/, tools/.
#pragma once

#include "dataloader/bad_samples.h"
#include "dataloader/crop_options.h"
#include "dataloader/dataset.h"
#include "dataloader/dataset_view.h"
#include "dataloader/loader.h"
#include "dataloader/loader_report.h"
#include "dataloader/statistics.h"
