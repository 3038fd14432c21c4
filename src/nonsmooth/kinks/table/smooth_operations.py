"""The operations of ATen that are smooth wherever they are defined; what is not differentiable is in `operations`.

A name is that of the operator without its overload: `add` stands for `aten::add.Tensor` and `aten::add_.Scalar`.
Views are smooth by their nature and need no entry.
"""

from __future__ import annotations

_MOVING = """
alias alias_copy as_strided as_strided_copy as_strided_scatter cat stack hstack vstack clone contiguous copy copy_
_to_copy _copy_from _copy_from_and_resize lift lift_fresh lift_fresh_copy detach detach_copy expand expand_copy view
view_copy _unsafe_view reshape _reshape_alias _reshape_alias_copy _reshape_copy permute permute_copy t t_copy
transpose transpose_copy select select_copy slice slice_copy narrow narrow_copy split split_copy split_with_sizes
split_with_sizes_copy unsafe_split unsafe_split_with_sizes unsafe_chunk chunk unbind unbind_copy squeeze squeeze_copy
unsqueeze unsqueeze_copy unfold unfold_copy diagonal diagonal_copy diag_embed block_diag flip roll rot90 repeat tile
repeat_interleave tril triu constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
replication_pad2d replication_pad3d pad_sequence pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle
im2col col2im gather index _unsafe_index index_select take index_add index_copy index_fill index_put _index_put_impl
_unsafe_index_put _unsafe_masked_index _unsafe_masked_index_put_accumulate put scatter scatter_add select_scatter
slice_scatter diagonal_scatter slice_inverse masked_fill masked_scatter masked_select where fill zero pin_memory
_pin_memory to_dense _to_dense to_sparse _to_sparse _to_sparse_csr _to_sparse_csc _to_sparse_bsr _to_sparse_bsc
to_mkldnn coalesce _coalesce values values_copy sparse_mask _sparse_coo_tensor_with_dims_and_tensors
sparse_compressed_tensor to_padded_tensor _nested_tensor_from_tensor_list _nested_tensor_from_mask _nested_from_padded
_nested_from_padded_tensor _nested_view_from_buffer _nested_view_from_buffer_copy _nested_view_from_jagged
_nested_view_from_jagged_copy _nested_get_values _nested_get_values_copy _pack_padded_sequence combinations complex
real imag view_as_real view_as_real_copy view_as_complex view_as_complex_copy conj _conj _conj_copy conj_physical
_conj_physical _neg_view _neg_view_copy resolve_conj resolve_neg resize set_ unsqueeze_copy max_unpool2d max_unpool3d
set_data _lazy_clone trace _foreach_clone _foreach_copy _fw_primal _make_dual _reshape_copy
"""

_LINEAR = """
add sub rsub neg mul sum mean nansum cumsum dot vdot mv mm bmm matmul _grouped_mm addmm addmv addr addbmm baddbmm
einsum tensordot linear bilinear _trilinear outer ger inner kron linalg_cross cross lerp addcmul sum_to_size deg2rad
rad2deg avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d mkldnn_adaptive_avg_pool2d upsample_linear1d upsample_bilinear2d
_upsample_bilinear2d_aa upsample_bicubic2d _upsample_bicubic2d_aa _upsample_lanczos2d_aa upsample_trilinear3d
upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
_upsample_nearest_exact3d affine_grid_generator cudnn_affine_grid_generator _fft_r2c _fft_c2r _fft_c2c embedding
sparse_dim _sparse_addmm _sparse_sparse_matmul sparse_sampled_addmm _sparse_sum convolution _convolution
convolution_overrideable conv_tbc cudnn_convolution cudnn_convolution_transpose miopen_convolution
miopen_convolution_transpose miopen_depthwise_convolution mkldnn_convolution mkldnn_linear _mps_convolution
_mps_convolution_transpose _nnpack_spatial_convolution _slow_conv2d_forward slow_conv3d_forward slow_conv_transpose2d
slow_conv_transpose3d slow_conv_dilated2d slow_conv_dilated3d _conv_depthwise2d conv_depthwise3d native_dropout
_fused_dropout dropout alpha_dropout feature_dropout _sparse_mm
"""

_CURVED = """
square prod cumprod exp exp2 expm1 sin cos sinh cosh tanh atan asinh erf erfc special_erfcx erfinv sigmoid sinc i0
special_i1 special_log_ndtr special_ndtr silu mish gelu glu log_sigmoid_forward
log_sigmoid logsumexp _logcumsumexp logcumsumexp logaddexp logaddexp2 _softmax softmax _safe_softmax _log_softmax
log_softmax _masked_softmax _sparse_softmax _sparse_log_softmax var var_mean matrix_exp linalg_matrix_exp linalg_det
_linalg_det mse_loss soft_margin_loss binary_cross_entropy_with_logits nll_loss_forward nll_loss nll_loss2d_forward
nll_loss2d _ctc_loss _cudnn_ctc_loss miopen_ctc_loss polar lgamma digamma polygamma mvlgamma
special_zeta _standard_gamma _standard_gamma_grad _dirichlet_grad _scaled_dot_product_flash_attention
_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention
_scaled_dot_product_cudnn_attention _scaled_dot_product_fused_attention_overrideable
_scaled_dot_product_attention_math _flash_attention_forward _efficient_attention_forward _cudnn_attention_forward
_native_multi_head_attention _thnn_fused_lstm_cell _thnn_fused_gru_cell _lstm_mps mkldnn_rnn_layer lstm gru cauchy
exponential geometric log_normal normal random uniform native_dropout_backward _softmax_backward_data
_log_softmax_backward_data sigmoid_backward tanh_backward silu_backward gelu_backward mish_backward glu_backward
log_sigmoid_backward softplus_backward mse_loss_backward soft_margin_loss_backward convolution_backward
convolution_backward_overrideable linear_backward embedding_dense_backward _embedding_bag_backward
_embedding_bag_dense_backward unfold_backward select_backward slice_backward diagonal_backward
reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward replication_pad1d_backward
replication_pad2d_backward replication_pad3d_backward avg_pool2d_backward avg_pool3d_backward
_adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward upsample_linear1d_backward upsample_bilinear2d_backward
upsample_bicubic2d_backward upsample_trilinear3d_backward upsample_nearest1d_backward upsample_nearest2d_backward
upsample_nearest3d_backward _upsample_nearest_exact1d_backward _upsample_nearest_exact2d_backward
_upsample_nearest_exact3d_backward nll_loss_backward nll_loss2d_backward masked_scatter_backward _slow_conv2d_backward
"""

_DOMAIN = """
div true_divide reciprocal rsqrt log log10 log1p log2 xlogy special_xlog1py special_ndtri
atanh tan addcdiv linalg_inv_ex _linalg_solve_ex linalg_solve_ex cholesky linalg_cholesky_ex cholesky_solve
cholesky_inverse linalg_solve_triangular triangular_solve linalg_lu_solve lu_unpack
linalg_householder_product ormqr linalg_slogdet _linalg_slogdet binary_cross_entropy
binary_cross_entropy_backward native_layer_norm native_layer_norm_backward native_group_norm
native_group_norm_backward native_batch_norm native_batch_norm_backward _native_batch_norm_legit
_native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update batch_norm_backward
_batch_norm_impl_index cudnn_batch_norm cudnn_batch_norm_backward miopen_batch_norm miopen_batch_norm_backward
_fused_rms_norm _fused_rms_norm_backward _weight_norm_interface _weight_norm_interface_backward nan_to_num ldexp
"""

DOMAIN = frozenset(_DOMAIN.split())
"""Smooth where they are defined, and with a boundary to that: division by 0, the logarithm of 0, a singular matrix, a
variance of 0 where the ε of a normalisation is 0. `binary_cross_entropy` also cuts its logarithms off at -100, which a
probability of e⁻¹⁰⁰ would reach and one computed in float32 or float64 does not, except as an exact 0."""

SMOOTH_OPERATIONS = frozenset(f"{_MOVING} {_LINEAR} {_CURVED}".split()) | DOMAIN
"""Among them, for reasons that a reader may miss: `gelu`, `silu` and `mish` are analytic; a cross-entropy picks by the
target, not by a maximum; attention is a softmax; dropout and the random slopes that go with a call are constants of
that call."""

_SHAPE_ONLY = """
empty_like _efficientzerotensor zeros_like ones_like full_like rand_like randn_like randint_like new_empty new_zeros
new_ones new_full new_empty_strided sym_size sym_stride sym_numel sym_storage_offset size stride numel is_same_size
is_coalesced dense_dim
"""

SHAPE_ONLY = frozenset(_SHAPE_ONLY.split())
"""Their results do not depend on the values of their arguments."""
