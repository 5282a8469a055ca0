"""The ready networks: what others trained and published, and what is shipped with this package.

The published APs are their authors', by their protocol; nothing here was measured by us. That of a shipped network is
on its card.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from samkr_edge.errors import SamkrError
from samkr_edge.ready_name import PREFIX

_OPENMMLAB = "https://download.openmmlab.com"
_MMPOSE = f"{_OPENMMLAB}/mmpose"
_DEKR = f"{_MMPOSE}/v1/body_2d_keypoint/dekr"


@dataclass(frozen=True)
class ReadyNetwork:
    """One entry.

    Attributes:
        name: after ``zoo:``.
        model: the network of `samkr-edge models` that the weights fill.
        keypoints: K; of a bare backbone those of the network that it starts.
        by: who published it.
        address: of the published file; empty for one that is shipped.
        sha256: of that file, its first digits or all; the publisher puts the first eight into its name.
        published: its publisher's AP, in words: a number under the key ``ap`` would be taken for a measured one.
        trained_on: in words.
        licence: of the weights, as their publisher gives it.
        whole: a finished network; else a start for training.
        input_size: (height, width) in pixels that it was trained at; None: the model's.
        shipped: its file in the folder ``shipped`` here, in place of an address; see ``training.ready.shipped_file``.
    """

    name: str
    model: str
    keypoints: int
    by: str
    trained_on: str
    licence: str
    address: str = ""
    sha256: str = ""
    published: str = ""
    whole: bool = True
    input_size: tuple[int, int] | None = None
    shipped: str = ""

    @property
    def file(self) -> str:
        """The name of the published file."""
        return self.address.rpartition("/")[2]


# K -> what mmpose trained on, and what it measured its AP on.
_DATA = {17: ("COCO train2017", "COCO val2017"), 14: ("CrowdPose trainval", "CrowdPose test")}


def _dekr(
    width: int, data: str, keypoints: int, ap: float, file: str, digits: str, date: str
) -> ReadyNetwork:
    on, split = _DATA[keypoints]
    return ReadyNetwork(
        f"dekr_w{width}_{data}",
        f"dekr_w{width}",
        keypoints,
        by="mmpose",
        trained_on=on,
        licence="Apache-2.0",
        address=f"{_DEKR}/{data}/{file}_{digits}-{date}.pth",
        sha256=digits,
        published=f"{ap} AP on {split}, flipped and rescored, by mmpose",
    )


def _higherhrnet(width: int, data: str, keypoints: int, ap: float, digits: str, date: str) -> ReadyNetwork:
    """Of mmpose 0.x; its authors' own, and SWAHR's, lie on drives that give no address for a file."""
    on, split = _DATA[keypoints]
    return ReadyNetwork(
        f"higherhrnet_w{width}_{data}",
        f"higherhrnet_w{width}",
        keypoints,
        by="mmpose",
        trained_on=on,
        licence="Apache-2.0",
        address=f"{_MMPOSE}/bottom_up/higher_hrnet{width}_{data}_512x512-{digits}_{date}.pth",
        sha256=digits,
        published=f"{ap} AP on {split}, flipped, by mmpose",
        input_size=(512, 512),
    )


def _hrnet(width: int, digits: str, address: str, by: str = "mmpose") -> ReadyNetwork:
    return ReadyNetwork(
        f"hrnet_w{width}_imagenet",
        f"samkr_w{width}",
        17,
        by=f"HRNet, kept by {by}",
        trained_on="ImageNet",
        licence="MIT",
        address=f"{address}-{digits}.pth",
        sha256=digits,
        whole=False,
    )


NETWORKS: tuple[ReadyNetwork, ...] = (
    _dekr(32, "coco", 17, 68.6, "dekr_hrnet-w32_8xb10-140e_coco-512x512", "ac7c17bf", "20221228"),
    _dekr(48, "coco", 17, 71.4, "dekr_hrnet-w48_8xb10-140e_coco-640x640", "74796c32", "20230124"),
    _dekr(32, "crowdpose", 14, 66.3, "dekr_hrnet-w32_8xb10-300e_crowdpose-512x512", "147bae97", "20221228"),
    _dekr(48, "crowdpose", 14, 67.9, "dekr_hrnet-w48_8xb5-300e_crowdpose-640x640", "4ea6031e", "20230128"),
    _higherhrnet(32, "coco", 17, 67.7, "8ae85183", "20200713"),
    _higherhrnet(48, "coco", 17, 68.6, "60fedcbc", "20200712"),
    _higherhrnet(32, "crowdpose", 14, 65.5, "1aa4a132", "20201017"),
    # Its authors' hrnetv2_w18_imagenet_pretrained.pth lies on a drive; mmpose keeps no copy, mmsegmentation's is this.
    _hrnet(18, "00eb2006", f"{_OPENMMLAB}/pretrain/third_party/hrnetv2_w18", "mmsegmentation"),
    _hrnet(32, "36af842e", f"{_MMPOSE}/pretrain_models/hrnet_w32"),
    _hrnet(48, "8ef0771d", f"{_MMPOSE}/pretrain_models/hrnet_w48"),
    ReadyNetwork(
        "samkr_tiny",
        "samkr_tiny",
        17,
        by="samkr-edge",
        trained_on="rendered people",
        licence="Apache-2.0",
        shipped="samkr_tiny.npz",
    ),
)


def ready_network(name: str) -> ReadyNetwork:
    """The entry of this name, with or without ``zoo:``.

    Raises:
        SamkrError: SE-U08 there is none.
    """
    name = name.removeprefix(PREFIX)
    for network in NETWORKS:
        if network.name == name:
            return network
    near = difflib.get_close_matches(name, [network.name for network in NETWORKS], n=2, cutoff=0.4)
    raise SamkrError(
        "SE-U08",
        f"there is no ready network named {name!r}, so nothing was fetched",
        {"nearest": ", ".join(near) or None},
        fix="samkr-edge zoo",
    )
