# SPDX-License-Identifier: Apache-2.0
"""A small wav2vec 2.0 of transformers, and inputs of its pretraining."""

import math

import torch
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2 import modeling_wav2vec2 as wav2vec2

BATCH, SAMPLES = 4, 4000
CODES, GROUPS = 20, 2
SMALL = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    conv_dim=(32, 32, 32),
    conv_stride=(5, 4, 4),
    conv_kernel=(10, 8, 4),
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    num_codevectors_per_group=CODES,
    num_codevector_groups=GROUPS,
    codevector_dim=CODES * GROUPS,
    proj_codevector_dim=32,
    num_negatives=10,
    mask_time_prob=0.5,
    layerdrop=0.0,
)
CONFIG = Wav2Vec2Config(**SMALL)


def chirps():
    """Signals of rising pitch with a little noise, normalized as the model requires."""
    t = torch.arange(SAMPLES) / 16000
    voices = [torch.sin(2 * math.pi * (200 + 150 * i + 300 * i * t) * t) for i in range(BATCH)]
    sound = torch.stack(voices) + 0.05 * torch.randn(BATCH, SAMPLES)
    return (sound - sound.mean(1, True)) / sound.std(1, keepdim=True)


def training_inputs(model):
    shape = (BATCH, int(model._get_feat_extract_output_lengths(SAMPLES)))
    mask = wav2vec2._compute_mask_indices(shape, CONFIG.mask_time_prob, mask_length=4)
    negatives = wav2vec2._sample_negative_indices(shape, CONFIG.num_negatives, mask)
    return {
        "input_values": chirps().to(model.dtype),
        "mask_time_indices": torch.from_numpy(mask),
        "sampled_negative_indices": torch.from_numpy(negatives),
    }
