"""Pictures: what is accepted, what is refused before it costs anything, and the numbers made."""

from __future__ import annotations

import io
import math
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from portico.serving.card import FeatureCard, ImageCard, ModelCard, describe
from portico.serving.codecs.image_fit import check_image_card, with_image
from portico.serving.codecs.images import MAX_JPEG_SCANS, tensor_from_image
from portico.serving.errors import ArtefactError, InvalidInput
from portico.serving.signature import Kind, Signature, features_of
from portico.serving.tensors import Array, Datatype, TensorSpec

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]
IMAGENET = ImageCard(resize=256, crop=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
RAW = ImageCard(scale="0..255", layout="NHWC")
"""The pixels as they are."""


def spec(*shape: int, datatype: Datatype = Datatype.FP32, name: str = "x") -> TensorSpec:
    return TensorSpec(name, datatype, shape)


ANY_SIZE = spec(-1, -1, -1, 3)
IMAGENET_SPEC = spec(-1, 3, 224, 224)


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> Array:
    """A smooth picture: JPEG and resizing do little harm to it, and every corner differs."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, channels), dtype=np.uint8).squeeze())
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def saved(picture: Image.Image | Array, format_name: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(64))), chunk(b"IEND", b""))
    )


def refusal(data: bytes, card: ImageCard = IMAGENET, tensor: TensorSpec = IMAGENET_SPEC) -> str:
    with pytest.raises(InvalidInput) as caught:
        tensor_from_image(data, tensor, card, "files[0]")
    assert caught.value.details[0].where == "files[0]"
    return caught.value.message


# What is accepted.


@pytest.mark.parametrize("format_name", ["PNG", "GIF", "WEBP"])
def test_lossless_formats_give_the_very_pixels(format_name: str) -> None:
    flat = np.zeros((6, 9, 3), dtype=np.uint8)
    flat[:3], flat[3:, 5:] = (10, 200, 30), (250, 0, 120)
    tensor = tensor_from_image(saved(flat, format_name, lossless=True), ANY_SIZE, RAW)
    np.testing.assert_array_equal(tensor, flat[np.newaxis].astype(np.float32))


def test_jpeg_gives_what_pillow_decodes() -> None:
    data = saved(pixels(40, 30), "JPEG", quality=90)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(tensor_from_image(data, ANY_SIZE, RAW)[0], wanted)


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(format_name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = saved(frames[0], format_name, save_all=True, append_images=frames[1:], lossless=True)
    tensor = tensor_from_image(data, ANY_SIZE, RAW)
    assert tensor[0, 4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_is_undone(orientation: int, format_name: str) -> None:
    upright = pixels(24, 40)
    # How a camera held that way stores what is upright (Exif 2.32, section 4.6.4).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(np.ascontiguousarray(stored), format_name, exif=exif, quality=100, lossless=True)
    tensor = tensor_from_image(data, ANY_SIZE, RAW)
    assert tensor.shape == (1, 24, 40, 3)
    assert np.abs(tensor[0] - upright).mean() < 4


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_leaves_the_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = pixels(6, 9)
    tensor = tensor_from_image(saved(picture, exif=exif), ANY_SIZE, RAW)
    np.testing.assert_array_equal(tensor[0], picture)


def test_a_large_turned_photo_is_drafted_to_the_right_shape() -> None:
    upright = pixels(1203, 2403)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(np.ascontiguousarray(np.rot90(upright, 1)), "JPEG", exif=exif, quality=95)
    tensor = tensor_from_image(data, ANY_SIZE, ImageCard(resize=100, scale="0..255", layout="NHWC"))
    wanted = Image.fromarray(upright).resize((199, 100), Image.Resampling.BILINEAR)
    assert tensor.shape == (1, 100, 199, 3)
    assert np.abs(tensor[0] - np.asarray(wanted)).max() <= 4


def test_a_24_megapixel_photo_takes_a_fraction_of_its_full_decoding() -> None:
    data = saved(Image.effect_noise((6000, 4000), 40).convert("RGB"), "JPEG", quality=80)
    begin = time.process_time()
    Image.open(io.BytesIO(data)).load()
    full = time.process_time() - begin
    begin = time.process_time()
    tensor_from_image(data, IMAGENET_SPEC, IMAGENET)
    assert time.process_time() - begin < full


# Colours.


def test_transparency_is_laid_on_white() -> None:
    clear = np.zeros((4, 4, 4), dtype=np.uint8)
    clear[:2] = (200, 0, 0, 255)
    clear[2] = (0, 0, 0, 128)
    tensor = tensor_from_image(saved(clear), ANY_SIZE, RAW)[0]
    assert tensor[0, 0].tolist() == [200, 0, 0]
    assert tensor[2, 0].tolist() == [127, 127, 127]
    assert tensor[3, 0].tolist() == [255, 255, 255]


def test_a_transparent_palette_colour_becomes_white() -> None:
    picture = Image.fromarray(np.tile(np.array([0, 1], dtype=np.uint8), (4, 2))).convert("P")
    picture.putpalette([0, 0, 0, 30, 60, 90])
    tensor = tensor_from_image(saved(picture, transparency=0), ANY_SIZE, RAW)[0]
    assert tensor[0, :2].tolist() == [[255, 255, 255], [30, 60, 90]]


def test_sixteen_bit_grey_keeps_its_whole_range() -> None:
    deep = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    tensor = tensor_from_image(saved(deep), ANY_SIZE, RAW)
    assert tensor[0, 0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_read(mode: str) -> None:
    white = {"I;16": 65535, "1": 1}.get(mode, "white")
    tensor = tensor_from_image(saved(Image.new(mode, (5, 4), white)), ANY_SIZE, RAW)
    assert tensor.shape == (1, 4, 5, 3)
    assert tensor.min() == 255


def test_cmyk_jpeg_is_read_as_colours() -> None:
    data = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = tensor_from_image(data, ANY_SIZE, RAW)[0, 4, 4]
    assert red > 245
    assert green < 10
    assert blue < 10


def test_bgr_turns_the_channels_round() -> None:
    picture = pixels(5, 7)
    card = ImageCard(color="BGR", scale="0..255", layout="NHWC")
    np.testing.assert_array_equal(
        tensor_from_image(saved(picture), ANY_SIZE, card)[0], picture[:, :, ::-1]
    )


def test_grey_is_one_channel_of_luma() -> None:
    picture = pixels(5, 7)
    card = ImageCard(color="L", scale="0..255")
    tensor = tensor_from_image(saved(picture), spec(-1, 1, -1, -1), card)
    np.testing.assert_array_equal(tensor[0, 0], np.asarray(Image.fromarray(picture).convert("L")))


# Size.


def test_the_imagenet_recipe_is_what_torchvision_does() -> None:
    picture = pixels(300, 401)
    size = (int(256 * 401 / 300), 256)
    resized = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    left, top = round((342 - 224) / 2), round((256 - 224) / 2)
    unit = np.asarray(resized.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    mean, std = (np.array(values, dtype=np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    wanted = (unit - mean) / std
    tensor = tensor_from_image(saved(picture), IMAGENET_SPEC, IMAGENET)
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor[0], wanted.transpose(2, 0, 1))


@pytest.mark.parametrize(("height", "width", "wanted"), [(30, 60, (20, 40)), (61, 30, (40, 20))])
def test_a_lone_number_resizes_the_shorter_side(
    height: int, width: int, wanted: tuple[int, int]
) -> None:
    card = ImageCard(resize=20, layout="NHWC")
    tensor = tensor_from_image(saved(pixels(height, width)), ANY_SIZE, card)
    assert tensor.shape[1:3] == wanted


def test_two_numbers_resize_exactly() -> None:
    card = ImageCard(resize=(12, 34), layout="NHWC")
    assert tensor_from_image(saved(pixels(50, 50)), ANY_SIZE, card).shape[1:3] == (12, 34)


def test_without_resize_and_crop_the_input_decides_the_size() -> None:
    picture = pixels(50, 70)
    tensor = tensor_from_image(saved(picture), spec(-1, 3, 16, 24), ImageCard(scale="0..255"))
    wanted = Image.fromarray(picture).resize((24, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0), np.asarray(wanted))


@pytest.mark.parametrize(("height", "width"), [(7, 9), (6, 9), (3, 20), (20, 3), (5, 5), (4, 6)])
def test_centre_crop_rounds_and_pads_as_torchvision(height: int, width: int) -> None:
    size = 6
    picture = pixels(height, width)
    card = ImageCard(crop=size, scale="0..255", layout="NHWC")
    # torchvision.transforms.functional.center_crop: pad to the crop's size first, then cut.
    pads = [
        (max(size - n, 0) // 2, (size - n + 1) // 2 if n < size else 0) for n in (height, width)
    ]
    padded = np.pad(picture, [*pads, (0, 0)])
    top, left = (round((n - size) / 2.0) for n in padded.shape[:2])
    wanted = padded[top : top + size, left : left + size]
    np.testing.assert_array_equal(tensor_from_image(saved(picture), ANY_SIZE, card)[0], wanted)


def test_padding_of_inverted_pictures_is_black_for_the_model() -> None:
    card = ImageCard(crop=6, color="L", invert=True)
    paper = saved(Image.new("L", (2, 2), 255))
    assert tensor_from_image(paper, spec(-1, 1, 6, 6), card).max() == 0


# Numbers and axes.


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.FP32, Datatype.FP64])
def test_floats_are_scaled_and_normalised(datatype: Datatype) -> None:
    picture = pixels(4, 4)
    tensor = tensor_from_image(
        saved(picture),
        spec(-1, 4, 4, 3, datatype=datatype),
        ImageCard(mean=IMAGENET_MEAN, std=IMAGENET_STD, layout="NHWC"),
    )
    wanted = (picture / 255 - IMAGENET_MEAN) / IMAGENET_STD
    assert tensor.dtype == datatype.dtype
    np.testing.assert_allclose(tensor[0], wanted, atol=float(np.finfo(datatype.dtype).eps) * 8)


def test_bytes_go_to_an_integer_input_as_they_are() -> None:
    picture = pixels(4, 4)
    tensor = tensor_from_image(
        saved(picture), spec(-1, 3, 4, 4, datatype=Datatype.UINT8), ImageCard()
    )
    assert tensor.dtype == np.uint8
    np.testing.assert_array_equal(tensor[0], picture.transpose(2, 0, 1))


def test_dark_strokes_become_light() -> None:
    card = ImageCard(color="L", invert=True, scale="0..255", mean=[0], std=[15.9375])
    ink = saved(np.array([[0, 255]], dtype=np.uint8))
    assert tensor_from_image(ink, spec(-1, 1, 1, 2), card).ravel().tolist() == [16, 0]


@pytest.mark.parametrize(
    ("shape", "layout", "wanted"),
    [
        ((-1, 1, 8, 8), "NCHW", (1, 1, 8, 8)),
        ((-1, 8, 8, 1), "NHWC", (1, 8, 8, 1)),
        ((-1, 8, 8), "NCHW", (1, 8, 8)),
        ((-1, 64), "NCHW", (1, 64)),
        ((1, 64), "NHWC", (1, 64)),
    ],
)
def test_grey_pictures_fit_every_layout(
    shape: tuple[int, ...], layout: Any, wanted: tuple[int, ...]
) -> None:
    card = ImageCard(color="L", layout=layout, scale="0..255")
    check_image_card(card, spec(*shape))
    picture = pixels(8, 8, channels=1)
    tensor = tensor_from_image(saved(picture), spec(*shape), card)
    assert tensor.shape == wanted
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor.ravel(), picture.ravel())


def test_columns_that_are_no_square_take_the_size_of_the_card() -> None:
    card = ImageCard(color="L", resize=(4, 8))
    for columns in (32, -1):
        check_image_card(card, spec(-1, columns))
        assert tensor_from_image(saved(pixels(9, 9)), spec(-1, columns), card).shape == (1, 32)


# What is refused.


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n1 0 obj",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        saved(pixels(4, 4), "BMP"),
        saved(pixels(4, 4), "TIFF"),
        b"II*\0",
        b"\x00",
        b"RIFF\0\0\0\0WAVE",
    ],
    ids=["pdf", "svg", "bmp", "tiff", "tiff-start", "nul", "wave"],
)
def test_other_formats_are_refused_by_their_content(data: bytes) -> None:
    assert "is no PNG, JPEG, WebP or GIF picture" in refusal(data)


def test_an_empty_file_is_called_empty() -> None:
    assert "is empty" in refusal(b"")


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_pictures_are_refused_and_called_so(format_name: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(noise, format_name)
    assert "truncated" in refusal(data[: int(len(data) * share)])


@pytest.mark.parametrize("side", [7_072, 10_000, 50_000])
def test_a_huge_picture_is_refused_by_its_header(side: int) -> None:
    begin = time.process_time()
    message = refusal(png_claiming(side, side))
    assert time.process_time() - begin < 0.1
    assert "50 megapixels" in message


def test_a_picture_of_just_the_limit_is_not_refused_for_its_size() -> None:
    assert "truncated" in refusal(png_claiming(10_000, 5_000))


def test_a_line_that_resizing_would_blow_up_is_refused() -> None:
    assert "so narrow" in refusal(saved(Image.new("L", (60_000, 1))))


def test_a_decompression_bomb_in_a_text_chunk_is_refused() -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    whole = saved(Image.new("L", (2, 2)))
    head = len(b"\x89PNG\r\n\x1a\n") + 25
    assert "damaged" in refusal(whole[:head] + chunk(b"zTXt", bomb) + whole[head:])


def test_a_jpeg_with_endless_scans_is_refused() -> None:
    data = saved(pixels(16, 16), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    bomb = data[:-2] + last_scan * MAX_JPEG_SCANS + data[-2:]
    assert "scans" in refusal(bomb)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF1234WEBP"]),
    st.binary(max_size=400),
)
def test_random_bytes_raise_nothing_but_invalid_input(start: bytes, rest: bytes) -> None:
    assert refusal(start + rest)


VALID = [
    saved(pixels(16, 16), "PNG"),
    saved(pixels(16, 16), "JPEG", exif=Image.Exif()),
    saved(pixels(16, 16), "JPEG", progressive=True),
    saved(pixels(16, 16), "WEBP"),
    saved(pixels(16, 16), "GIF"),
]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(VALID), st.data())
def test_a_damaged_picture_gives_a_tensor_or_invalid_input(data: bytes, at: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(at.draw(st.integers(1, 6))):
        damaged[at.draw(st.integers(0, len(damaged) - 1))] = at.draw(st.integers(0, 255))
    try:
        tensor = tensor_from_image(bytes(damaged), IMAGENET_SPEC, IMAGENET)
    except InvalidInput:
        return
    assert tensor.shape == (1, 3, 224, 224)
    assert np.isfinite(tensor).all()


# Cards that cannot work are refused when the model is loaded.


@pytest.mark.parametrize(
    ("card", "tensor", "sentence"),
    [
        (ImageCard(mean=[0.5]), IMAGENET_SPEC, "mean has 1 values; color RGB has 3 channels"),
        (ImageCard(std=[1.0, 1.0]), IMAGENET_SPEC, "std has 2 values"),
        (ImageCard(color="L", mean=[0.5] * 3), spec(-1, 28, 28), "color L has 1 channels"),
        (ImageCard(std=[1.0, 0.0, 1.0]), IMAGENET_SPEC, "cannot be so normalised"),
        (ImageCard(mean=[math.nan] * 3), IMAGENET_SPEC, "cannot be so normalised"),
        (ImageCard(layout="NHWC"), IMAGENET_SPEC, "takes 224 there"),
        (ImageCard(color="L"), IMAGENET_SPEC, "gives 1 channels"),
        (ImageCard(), spec(-1, 28, 28), 'Only color = "L" also fits'),
        (ImageCard(), spec(-1, 3072), 'Only color = "L" also fits'),
        (ImageCard(color="L"), spec(-1), "has shape [-1]"),
        (ImageCard(color="L"), spec(-1, 65), "which picture fills the columns"),
        (ImageCard(color="L"), spec(-1, -1), "which picture fills the columns"),
        (ImageCard(color="L", crop=9), spec(-1, 65), "which picture fills the columns"),
        (ImageCard(), spec(8, 3, 224, 224), "exactly 8 pictures at once"),
        (ImageCard(crop=256), IMAGENET_SPEC, "crop makes pictures of 256 x 256"),
        (ImageCard(resize=(224, 225)), IMAGENET_SPEC, "resize makes pictures of 224 x 225"),
        (ImageCard(resize=256), IMAGENET_SPEC, "add crop"),
        (ImageCard(), spec(-1, 3, 32, -1), "leaves the pictures' size open"),
        (ImageCard(), spec(-1, 3, 8, 8, datatype=Datatype.INT64), "takes INT64"),
        (ImageCard(), spec(-1, 3, 8, 8, datatype=Datatype.BYTES), "takes BYTES"),
        (
            ImageCard(mean=[0.0] * 3),
            spec(-1, 3, 8, 8, datatype=Datatype.UINT8),
            "mean makes fractions",
        ),
    ],
)
def test_a_card_that_contradicts_the_input_is_refused(
    card: ImageCard, tensor: TensorSpec, sentence: str
) -> None:
    with pytest.raises(ArtefactError) as caught:
        check_image_card(card, tensor)
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    ("card", "tensor"),
    [
        (IMAGENET, IMAGENET_SPEC),
        (IMAGENET, spec(1, 3, 224, 224)),
        (IMAGENET, spec(-1, -1, -1, -1)),
        (ImageCard(resize=64), spec(-1, 3, -1, -1)),
        (ImageCard(resize=(32, 128)), spec(-1, 3, 32, -1)),
        (ImageCard(layout="NHWC"), spec(-1, 224, 224, 3)),
    ],
)
@pytest.mark.parametrize("size", [(30, 40), (300, 200)])
def test_what_the_check_takes_gives_tensors_that_fit(
    card: ImageCard, tensor: TensorSpec, size: tuple[int, int]
) -> None:
    check_image_card(card, tensor)
    assert tensor.admits(tensor_from_image(saved(pixels(*size)), tensor, card).shape)


# The picture in the signature.


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs, (spec(-1, 2, name="scores"),), features_of(inputs))


def test_a_card_without_image_leaves_the_signature() -> None:
    plain = signature(IMAGENET_SPEC)
    assert with_image(plain, ModelCard()) is plain


def test_the_columns_of_the_one_input_become_one_picture() -> None:
    pictured = with_image(signature(spec(-1, 64)), ModelCard(image=ImageCard(color="L")))
    assert [(f.name, f.kind, f.tensor) for f in pictured.features] == [("image", Kind.IMAGE, "x")]
    assert pictured.image is pictured.features[0]


def test_the_card_can_title_the_picture() -> None:
    card = ModelCard(image=IMAGENET, features={"image": FeatureCard(title="Photo of a leaf")})
    described = describe(with_image(signature(IMAGENET_SPEC), card), card)
    assert described.features[0].heading == "Photo of a leaf"


def test_among_several_inputs_the_only_fitting_one_takes_the_picture() -> None:
    pictured = with_image(
        signature(spec(-1, 3, name="age_sex_site"), IMAGENET_SPEC), ModelCard(image=IMAGENET)
    )
    assert [f.name for f in pictured.features] == [
        "image",
        "age_sex_site_1",
        "age_sex_site_2",
        "age_sex_site_3",
    ]


@pytest.mark.parametrize(
    ("inputs", "count"),
    [
        ((spec(-1, 3, 8, 8, name="a"), spec(-1, 3, 9, 9, name="b")), "2"),
        ((spec(-1, 5, name="a"), spec(-1, name="b")), "none"),
    ],
)
def test_without_a_single_fitting_input_the_card_is_refused(
    inputs: tuple[TensorSpec, ...], count: str
) -> None:
    with pytest.raises(ArtefactError, match=f"it fits {count} of 'a' FP32"):
        with_image(signature(*inputs), ModelCard(image=ImageCard()))


def test_the_check_of_the_one_input_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ArtefactError, match="mean has 1 values"):
        with_image(signature(IMAGENET_SPEC), ModelCard(image=ImageCard(mean=[0.0])))
