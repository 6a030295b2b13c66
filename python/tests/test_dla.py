"""The Python door against the C library's own answers, Pillow, and timm (the last two where they are installed)."""

import importlib.util
import pathlib
import tempfile
import threading
import unittest

import numpy as np

import dla

PHOTOS = pathlib.Path(__file__).resolve().parents[2] / "examples" / "photos"
TRUCK = PHOTOS / "garbage_truck.jpg"
HAVE_TIMM = all(importlib.util.find_spec(name) for name in ("torch", "timm", "safetensors"))
HAVE_TORCHVISION = all(importlib.util.find_spec(name) for name in ("PIL", "torchvision"))


class BuiltIn(unittest.TestCase):
    def setUp(self):
        self.model = dla.Model(threads=1)

    def test_it_says_what_it_is(self):
        self.assertEqual(self.model.name, "dla46_c")
        self.assertEqual(self.model.class_count, 10)
        self.assertEqual(len(self.model.labels), 10)
        self.assertIn("n03417042", self.model.wnids)
        self.assertEqual(self.model.preprocessing.size, 160)
        self.assertIn("dla46_c", repr(self.model))
        self.assertIn("dla46_c", self.model.report)

    def test_a_truck_is_a_truck_from_path_bytes_and_pixels(self):
        from_path = self.model.classify(str(TRUCK), topk=3)
        self.assertEqual(from_path[0].label, "garbage truck")
        self.assertEqual(len(from_path), 3)
        self.assertGreater(from_path[0].probability, from_path[1].probability)
        self.assertEqual(self.model.classify(TRUCK.read_bytes(), topk=3), from_path)
        everything = self.model.classify(TRUCK, topk=100)
        self.assertAlmostEqual(sum(score.probability for score in everything), 1, places=9)

    def test_pixels(self):
        pixels = np.random.default_rng(1).integers(0, 256, (201, 333, 3), np.uint8)
        whole = self.model.preprocess(pixels)
        self.assertEqual((whole.shape, whole.dtype), ((1, 3, 160, 160), np.float32))
        wide = np.zeros((201, 400, 3), np.uint8)
        wide[:, :333] = pixels
        np.testing.assert_array_equal(self.model.preprocess(wide[:, :333]), whole)   # rows with something behind them

    def test_features_have_their_shapes_and_lead_to_the_logits(self):
        batch = np.random.default_rng(2).standard_normal((2, 3, 96, 64), np.float32)
        maps = self.model.features(batch)
        self.assertEqual([maps[name].shape for name in maps], [(2, 64, 24, 16), (2, 64, 12, 8), (2, 128, 6, 4), (2, 256, 3, 2)])
        np.testing.assert_array_equal(self.model.forward_features(batch), maps["level5"])
        np.testing.assert_allclose(self.model.embed(batch), maps["level5"].mean((2, 3)), rtol=1e-5, atol=1e-6)
        self.assertEqual(self.model(batch).shape, (2, 10))
        np.testing.assert_allclose(self.model(batch[1]), self.model(batch)[1:], rtol=1e-4, atol=1e-5)

    def test_strided_and_double_arrays(self):
        batch = np.random.default_rng(3).standard_normal((1, 64, 64, 3))
        turned = batch.transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(self.model(turned), self.model(np.ascontiguousarray(turned, np.float32)))

    def test_many_shapes_and_threads(self):
        batches = [np.full((1, 3, 32 + 8 * i, 64), i / 10, np.float32) for i in range(12)]
        expected = [self.model(batch) for batch in batches]
        results = {}

        def work(worker):
            results[worker] = [self.model(batch) for batch in batches]

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for worker in range(3):
            for got, want in zip(results[worker], expected):
                np.testing.assert_array_equal(got, want)


class Mistakes(unittest.TestCase):
    def test_they_are_exceptions_with_the_library_s_words(self):
        with self.assertRaises(dla.DlaError) as caught:
            dla.Model("dla35", weights="x")
        self.assertIn("dla34", str(caught.exception))
        self.assertEqual(caught.exception.status, "not found")
        with self.assertRaisesRegex(dla.DlaError, "missing.safetensors"):
            dla.Model("dla34", weights="missing.safetensors")
        with self.assertRaises(dla.DlaError):
            dla.preprocess(b"Dear reader")
        model = dla.Model()
        for wrong in (np.zeros((1, 4, 64, 64)), np.zeros((64, 64)), np.zeros((0, 3, 64, 64))):
            with self.assertRaises(ValueError):
                model(wrong)
        with self.assertRaises(dla.DlaError):
            model(np.zeros((1, 3, 16, 16)))
        with self.assertRaises(dla.DlaError):
            model.features(np.zeros((1, 3, 64, 64)), ["level9"])
        with self.assertRaisesRegex(ValueError, "cpu, cuda"):
            dla.Model(device="gpu")
        with self.assertRaisesRegex(dla.DlaError, "float32 alone"):
            dla.Model(precision="float16")(np.zeros((1, 3, 64, 64)))
        with self.assertRaises(ValueError):
            dla.preprocess(np.zeros((10, 10), np.uint8))
        with self.assertRaises(ValueError):
            dla.preprocess(TRUCK, dla.Preprocessing(interpolation="nearest"))

    def test_models_are_listed(self):
        self.assertEqual(len(dla.models()), 12)
        self.assertIn("dla60_res2next", dla.models())


@unittest.skipUnless(HAVE_TORCHVISION, "Pillow or torchvision is not installed")
class AgainstTorchvision(unittest.TestCase):
    def test_preprocessing_is_equal(self):
        from PIL import Image
        from torchvision import transforms

        steps = transforms.Compose([
            transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ])
        for name in ("garbage_truck.jpg", "berlin_cathedral.jpg", "reims_cathedral.webp", "cat.jpg"):
            expected = steps(Image.open(PHOTOS / name).convert("RGB"))[None].numpy()
            np.testing.assert_allclose(dla.preprocess(PHOTOS / name), expected, rtol=0, atol=1e-6, err_msg=name)
            np.testing.assert_allclose(dla.preprocess(np.asarray(Image.open(PHOTOS / name).convert("RGB"))), expected, rtol=0, atol=1e-6)


@unittest.skipUnless(HAVE_TIMM, "PyTorch, timm or safetensors is not installed")
class AgainstTimm(unittest.TestCase):
    def check(self, name, size):
        import timm
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(5)
        torch.set_num_threads(1)
        reference = timm.create_model(name).eval()
        for module in reference.modules():   # statistics as after training, not 0 and 1
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        with tempfile.TemporaryDirectory() as folder:
            weights = pathlib.Path(folder) / "weights.safetensors"
            save_file(reference.state_dict(), weights)
            model = dla.Model(name, weights=weights)
            batch = torch.randn(2, 3, *size)
            with torch.no_grad():
                features = reference.forward_features(batch).numpy()
                logits = reference(batch).numpy()
            for got, want in ((model.forward_features(batch.numpy()), features), (model(batch.numpy()), logits)):
                self.assertEqual(got.shape, want.shape)
                self.assertLessEqual(np.abs(got - want).max(), 1e-4 * np.abs(want).max())

    def test_forward_features_and_logits(self):
        for name, size in (("dla34", (64, 96)), ("dla46x_c", (96, 64)), ("dla60_res2net", (64, 64))):
            with self.subTest(name):
                self.check(name, size)


if __name__ == "__main__":
    unittest.main()
