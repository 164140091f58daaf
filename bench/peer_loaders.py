"""The other loaders of loader_peers.py, each written as its users write it.

load(first, count) makes batches out of images first, first + 1, ... and returns the last batch.
"""

import importlib.metadata
import io
import multiprocessing
import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor

SHORT, CROP, BATCH = 256, 224, 128


class Pooled:
    """Images one by one, by a pool of threads."""

    def __init__(self, buffers, threads):
        import numpy

        self.buffers = buffers
        self.batch = numpy.empty((BATCH, CROP, CROP, 3), numpy.uint8)
        self.pool = ThreadPoolExecutor(threads)
        self.random = random.Random(0)

    def load(self, first, count):
        for _ in self.pool.map(self.fill, range(first, first + count)):
            pass
        return self.batch

    def fill(self, index):
        self.batch[index % BATCH] = self.crop(self.buffers[index % len(self.buffers)])

    def place(self, width, height):
        """Left, top, and whether to mirror."""
        left, top = self.random.randint(0, width - CROP), self.random.randint(0, height - CROP)
        return left, top, self.random.random() < 0.5


def resized(width, height):
    short = min(width, height)
    return SHORT * width // short, SHORT * height // short


class Pillow(Pooled):
    install = "numpy pillow"

    def __init__(self, buffers, threads):
        import PIL.Image

        super().__init__(buffers, threads)
        self.version = PIL.__version__
        self.library = PIL.Image

    def crop(self, jpeg):
        image = self.library.open(io.BytesIO(jpeg)).convert("RGB")
        image = image.resize(resized(*image.size), self.library.Resampling.BILINEAR)
        left, top, mirror = self.place(*image.size)
        image = image.crop((left, top, left + CROP, top + CROP))
        return image.transpose(self.library.Transpose.FLIP_LEFT_RIGHT) if mirror else image


class OpenCV(Pooled):
    install = "opencv-python-headless"

    def __init__(self, buffers, threads):
        import cv2
        import numpy

        super().__init__([numpy.frombuffer(jpeg, numpy.uint8) for jpeg in buffers], threads)
        cv2.setNumThreads(1)
        self.version = cv2.__version__
        self.cv2 = cv2

    def crop(self, jpeg):
        cv2 = self.cv2
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        size = resized(image.shape[1], image.shape[0])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        left, top, mirror = self.place(*size)
        image = image[top : top + CROP, left : left + CROP]
        return cv2.flip(image, 1) if mirror else image


class Torchvision(Pooled):
    install = "torch torchvision"

    def __init__(self, buffers, threads):
        import torch
        import torchvision
        from torchvision.transforms.v2 import functional

        super().__init__([torch.frombuffer(jpeg, dtype=torch.uint8) for jpeg in buffers], threads)
        torch.set_num_threads(1)
        self.version = torchvision.__version__
        self.io, self.functional = torchvision.io, functional

    def crop(self, jpeg):
        image = self.io.decode_jpeg(jpeg, self.io.ImageReadMode.RGB)
        image = self.functional.resize(image, [SHORT], antialias=True)
        left, top, mirror = self.place(image.shape[2], image.shape[1])
        image = self.functional.crop(image, top, left, CROP, CROP)
        if mirror:
            image = self.functional.horizontal_flip(image)
        return image.permute(1, 2, 0)


class DALI:
    install = "nvidia-dali-cuda130"

    def __init__(self, buffers, threads):
        import numpy
        from nvidia import dali
        from nvidia.dali import fn, types

        self.version = dali.__version__
        self.buffers = [numpy.frombuffer(jpeg, numpy.uint8) for jpeg in buffers]

        @dali.pipeline_def(batch_size=BATCH, num_threads=threads, device_id=None, seed=0)
        def pipeline():
            jpegs = fn.external_source(self.next_files, ndim=1, dtype=types.UINT8, no_copy=True)
            images = fn.decoders.image(jpegs, device="cpu", output_type=types.RGB)
            images = fn.resize(images, resize_shorter=SHORT, interp_type=types.INTERP_LINEAR)
            images = fn.crop(
                images,
                crop=(CROP, CROP),
                crop_pos_x=fn.random.uniform(range=(0.0, 1.0)),
                crop_pos_y=fn.random.uniform(range=(0.0, 1.0)),
            )
            return fn.flip(images, horizontal=fn.random.coin_flip())

        self.pipeline = pipeline()
        self.pipeline.build()

    def next_files(self):
        first = next(self.firsts)
        return [self.buffers[i % len(self.buffers)] for i in range(first, first + BATCH)]

    def load(self, first, count):
        # The files of one call end, so that no batch is made ahead before or behind it.
        self.firsts = iter(range(first, first + count, BATCH))
        for _ in range(count // BATCH):
            (images,) = self.pipeline.run()
        batch = images.as_array()
        self.pipeline.reset()
        return batch


class FFCV:
    install = "ffcv (builds with the development files of OpenCV and libturbojpeg)"

    def __init__(self, buffers, threads):
        os.environ["TQDM_DISABLE"] = "1"  # the writer's progress bar
        import numpy
        import PIL.Image
        from ffcv.fields.rgb_image import IMAGE_MODES, RGBImageField, ResizedCropRGBImageDecoder
        from ffcv.loader import Loader
        from ffcv.transforms import RandomHorizontalFlip
        from ffcv.writer import DatasetWriter

        class JpegField(RGBImageField):
            """Takes a JPEG as it is: RGBImageField would compress the pixels again."""

            def encode(self, destination, jpeg, malloc):
                destination["mode"] = IMAGE_MODES["jpg"]
                with PIL.Image.open(io.BytesIO(jpeg)) as image:
                    destination["width"], destination["height"] = image.size
                destination["data_ptr"], storage = malloc(len(jpeg))
                storage[:] = numpy.frombuffer(jpeg, numpy.uint8)

        def random_square(height, width, scale, ratio):
            side = int(ratio * min(height, width))
            top = int(numpy.random.uniform(0, height - side + 1))
            left = int(numpy.random.uniform(0, width - side + 1))
            return top, left, side, side

        class CropDecoder(ResizedCropRGBImageDecoder):
            scale, ratio = None, CROP / SHORT
            get_crop_generator = property(lambda self: random_square)

        self.version = importlib.metadata.version("ffcv")
        self.folder = tempfile.TemporaryDirectory()
        file = os.path.join(self.folder.name, "photos.beton")
        multiprocessing.set_start_method("fork", force=True)  # the writer's: JpegField is local
        DatasetWriter(file, {"image": JpegField()}, num_workers=1).from_indexed_dataset(
            [(jpeg,) for jpeg in buffers]
        )
        self.count = len(buffers)
        self.numpy = numpy
        self.loader = Loader(
            file,
            batch_size=BATCH,
            num_workers=threads,
            os_cache=True,
            custom_fields={"image": JpegField},
            pipelines={"image": [CropDecoder((CROP, CROP)), RandomHorizontalFlip()]},
        )

    def load(self, first, count):
        # What Loader calls an epoch is the images of one call.
        indices = self.numpy.arange(first, first + count, dtype="uint64") % self.count
        self.loader.traversal_order.indices = self.loader.first_traversal_order = indices
        for (batch,) in self.loader:
            pass
        return batch


LOADERS = {
    "Pillow": Pillow,
    "OpenCV": OpenCV,
    "torchvision": Torchvision,
    "DALI": DALI,
    "FFCV": FFCV,
}
